"""From effects of head sets to numbers: shares with intervals, curves, smallest sets against random ones, paths by layer."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechgate.analysis.head_sets import WITHIN
from mechgate.analysis.screening import LEAST_CORRELATION, agreement
from mechgate.errors import InputError
from mechgate.stats.estimates import Estimate, bootstrap_difference, bootstrap_mean, bootstrap_ratio
from mechgate.stats.multiplicity import holm
from mechgate.stats.permutation import FEWEST_NULLS, p_from_null

ALPHA = 0.05
WHERE = ("in the same layers", "in any layers")
"""`analysis.head_sets.WITHIN` in words."""
Effects = NDArray[np.float64]
"""Of one set [facts], or of several [sets, facts], nats."""


def whole_effect(whole: Effects, facts: Sequence[str], *, least: float, seed: int) -> tuple[Estimate, str | None]:
    """The mean effect, and why shares of it cannot be taken, if they cannot: its interval is not beyond `least` nats."""
    found = bootstrap_mean(whole, facts, seed=seed)
    near = min(abs(found.low), abs(found.high)) if found.low * found.high > 0 else 0.0
    if near <= least:
        return found, f"the effect's interval is not beyond {least:g} nats: there is nothing to keep"
    try:
        bootstrap_ratio(whole, whole, facts, seed=seed, draws=100)
    except InputError:
        return found, "the effect differs too much between facts for shares of it"
    return found, None


def shares(effects: Effects, whole: Effects, facts: Sequence[str], *, seed: int) -> list[dict[str, Any]]:
    """The share of the whole effect that each set has, as JSON estimates: mean over mean, facts resampled with both."""
    return [bootstrap_ratio(one, whole, facts, seed=seed).to_json() for one in effects]


def against_random(share: float, exact: Effects, whole: Effects, screened: float, draws: Effects, own: Effects) -> dict:
    """A set's share beside random sets of its size and layers.

    `exact` [sets, facts] are effects of random sets and `own` [sets] their screened shares; `draws` [n] are screened shares
    of many more, compared with the set's own, `screened`. p: as large a share or larger, (b + 1) / (K + 1). The screened p is
    None unless screened and exact shares of the same sets correlate by at least .95; so is the correlation of sets that do
    not differ (a set of whole layers has no others beside it).
    """
    found = exact.mean(axis=1) / whole.mean()
    differ = np.ptp(found) > 0 and np.ptp(own) > 0
    screen = {**agreement(own, found), "exact minus screened": float((found - own).mean())} if differ else None
    usable = screen is not None and screen["r"] >= LEAST_CORRELATION
    return {
        "exact": found.tolist(),
        "p": p_from_null(share, found, alternative="greater"),
        "screen": screen,
        "screened": float(screened),
        "screened random": quantiles(draws),
        "screened p": p_from_null(screened, draws, alternative="greater") if usable else None,
        "draws": len(draws),
    }


def quantiles(values: Effects) -> dict[str, float]:
    """The middle 95% and the median."""
    low, median, high = np.quantile(values, [0.025, 0.5, 0.975])
    return {"low": float(low), "median": float(median), "high": float(high)}


def on_true_claims(false: Effects, true: Effects, facts: Sequence[str], *, seed: int) -> dict[str, Any]:
    """A set's effect on false claims, on true ones about the same facts, and the difference, paired by fact (nats)."""
    return {
        "false": bootstrap_mean(false, facts, seed=seed).to_json(),
        "true": bootstrap_mean(true, facts, seed=seed).to_json(),
        "false minus true": bootstrap_difference(false, true, facts, seed=seed).to_json(),
    }


def by_path(total: Effects, direct: Effects, facts: Sequence[str], *, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Whole, direct and indirect (whole minus direct) effects of sets [sets, facts], in nats, as JSON estimates."""
    kinds = {"total": total, "direct": direct, "indirect": total - direct}
    return {kind: [bootstrap_mean(one, facts, seed=seed).to_json() for one in values] for kind, values in kinds.items()}


def paths(total: Effects, direct: Effects, layers: Sequence[int], facts: Sequence[str], *, seed: int) -> dict[str, Any]:
    """`by_path` of each layer's gates alone, and of all together (the last row of both)."""
    found = by_path(total, direct, facts, seed=seed)
    return {
        "layers": list(layers),
        "by layer": {kind: values[:-1] for kind, values in found.items()},
        "all layers": {kind: values[-1] for kind, values in found.items()},
    }


def adjusted(smallest: dict[str, Any]) -> dict[str, Any]:
    """The smallest sets of one strength with Holm's p over their orders beside each exact p, for each kind of random sets."""
    found = copy.deepcopy(smallest)
    sets = {name: one["random"] for name, one in found.items() if one}
    for within in WITHIN if sets else ():
        for name, p in holm({name: one[within]["p"] for name, one in sets.items()}).items():
            sets[name][within]["p, Holm"] = p
    return found


def told(numbers: dict[str, Any]) -> list[str]:
    """The findings in words, some lines a gate set and strength."""
    lines, share = [], numbers["settings"]["share"]
    for gates, by_strength in numbers["gates"].items():
        for s, found in by_strength.items():
            lines.append(f"{gates}, s = {s}: {_said(found['whole'])} nats on {numbers['facts']} test facts")
            if found["why not"]:
                lines.append(f"  shares cannot be told: {found['why not']}")
            for order, one in (found["smallest"] or {}).items():
                lines.append(f"  {order} first: {_smallest(one, share, numbers['heads'][gates])}")
            every = found["paths"]["all layers"]
            lines.append("  paths: " + ", ".join(f"{kind} {_said(every[kind])}" for kind in ("direct", "indirect")))
    return lines


def _smallest(one: dict[str, Any] | None, share: float, n: int) -> str:
    if one is None:
        return f"no number of heads keeps {share:.0%} (dev facts)"
    parts = [
        f"{len(one['heads'])} of {n} heads (chosen for {share:.0%} of dev facts' effect) keep {_percent(one['kept'])}, without "
        f"them {_percent(one['left'])} is left; direct {_said(one['paths']['direct'])} of {_said(one['paths']['total'])} nats; "
        f"false minus true claims {_said(one['claims']['false minus true'])} nats",
        *(f"{where}: {_beside(one['random'][within])}" for within, where in zip(WITHIN, WHERE, strict=True)),
    ]
    return "\n    ".join(parts)


def _beside(random: dict[str, Any]) -> str:
    kept = (
        f"{min(random['exact']):.0%} to {max(random['exact']):.0%}, p = {random['p']:.2g}, Holm {random['p, Holm']:.2g}"
    )
    if random["screen"] is not None:
        kept += f"; the screen's r = {random['screen']['r']:.2f}"
    if random["screened p"] is not None:
        kept += f", p = {random['screened p']:.2g} of {random['draws']} screened"
    if random["different"] < FEWEST_NULLS:
        return f"cannot be told, only {random['different']} such sets differ ({kept})"
    return (
        f"{'more than' if random['p, Holm'] <= ALPHA else 'not told from'} {len(random['exact'])} random sets ({kept})"
    )


def _said(one: dict[str, Any]) -> str:
    return str(Estimate(**one))


def _percent(one: dict[str, Any]) -> str:
    return f"{one['value']:.0%} [{one['low']:.0%}, {one['high']:.0%}]"
