"""From measured rows to what the verdict stands on: axes, contrasts at equal dose, spared abilities, claims."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from mechgate.errors import InputError
from mechgate.referee.draws import SIDES
from mechgate.stats.contrasts import family_contrast
from mechgate.stats.equivalence import ITEM_MARGIN, Equivalence, item_margin, tost
from mechgate.stats.estimates import Estimate, bootstrap_mean
from mechgate.stats.grids import Grid, grid_from_rows
from mechgate.stats.hierarchical import hierarchical_bootstrap
from mechgate.stats.permutation import FEWEST_NULLS, p_from_null, sign_flip_p
from mechgate.stats.selectivity import Axis, axis

PERPLEXITY_RATIO = 1.05


def changes(rows: pd.DataFrame, start: pd.DataFrame, side: str) -> Grid:
    """Changes of the stance margin from `start` on one side: gate sets x facts x wordings (in the pairs' order)."""
    here = rows[rows["set"] == side]
    ids, seeds, facts = (here[name].to_numpy() for name in ("id", "seed", "fact"))
    mine = (start["set"] == side).to_numpy()
    base = dict(zip(start["id"].to_numpy()[mine], start["value"].to_numpy()[mine], strict=True))
    if lost := sorted(set(ids) - set(base)):
        raise InputError("prompts were not measured without gates", got=lost[:3], do="measure them at strength 0 too")
    moved = here["value"].to_numpy() - np.array([base[name] for name in ids])
    seen: Counter[tuple[str, str]] = Counter()
    wording = []
    for cell in zip(seeds, facts, strict=True):  # a group-by takes ten times as long on tables this small
        wording.append(seen[cell])
        seen[cell] += 1
    return grid_from_rows(moved, seeds, facts, wording)


def axis_at(rows: pd.DataFrame, start: pd.DataFrame, strength: float, *, seed: int, draws: int = 10_000) -> Axis:
    """E, A and sigma of the gate sets in `rows` at one strength, from all their facts."""
    here = rows[rows["strength"] == strength]
    both = changes(here, start, "wanted"), changes(here, start, "unwanted")
    return axis(*both, strength=strength, seed=seed, draws=draws)


def discrimination(start: pd.DataFrame, *, seed: int, draws: int = 10_000) -> Estimate:
    """The model's own change of the stance margin from the unwanted side to the wanted one, nats, clustered by fact."""
    wide = start.groupby(["fact", "set"])["value"].mean().unstack("set")
    apart = (wide["wanted"] - wide["unwanted"]).to_numpy()
    return bootstrap_mean(apart, wide.index.to_numpy(), seed=seed, draws=draws)


def by_set(rows: pd.DataFrame, start: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean change of both sides for every gate set and strength in `rows`, as plain values."""
    found = []
    for name in sorted(set(rows["seed"])):
        for strength in sorted(set(rows["strength"])):
            part = rows[(rows["seed"] == name) & (rows["strength"] == strength)]
            if len(part):
                e, a = (float(changes(part, start, side).values.mean()) for side in SIDES)
                found.append({"set": str(name), "strength": float(strength), "wanted": e, "unwanted": a})
    return found


def curves(rows: pd.DataFrame, start: pd.DataFrame, *, seed: int) -> dict[str, Any]:
    """Both sides over strength (0 is exact) with intervals, and the odd and even parts at each |s| with both signs.

    O = (f(s) - f(-s)) / 2, V = (f(s) + f(-s)) / 2 - f(0). To first order any gate is odd: no evidence of selection.
    """
    strengths = [float(s) for s in sorted(set(rows["strength"]))]
    facts = set.intersection(*(set(rows.loc[rows["strength"] == s, "fact"]) for s in strengths))
    common = rows[rows["fact"].isin(facts)]
    found: dict[str, Any] = {"facts": len(facts)}
    for side in SIDES:
        levels = start[(start["set"] == side) & start["fact"].isin(facts)]
        grids = {s: changes(common[common["strength"] == s], start, side) for s in strengths}
        points = {s: hierarchical_bootstrap(grid, seed=seed) for s, grid in grids.items()}
        mirrored = [s for s in points if s > 0 and -s in points]
        found[side] = {
            "start": bootstrap_mean(levels["value"].to_numpy(), levels["fact"].to_numpy(), seed=seed).to_json(),
            "points": [{"strength": s, "change": estimate.to_json()} for s, estimate in points.items()],
            "odd": [{"strength": s, "part": (points[s].value - points[-s].value) / 2} for s in mirrored],
            "even": [{"strength": s, "part": (points[s].value + points[-s].value) / 2} for s in mirrored],
        }
    return found


def interaction(
    found_rows: pd.DataFrame, start: pd.DataFrame, strength: float, *, seed: int, draws: int = 10_000
) -> Estimate:
    """E - A with its interval; p is the sign-flip test over facts (gate sets and wordings averaged first)."""
    here = found_rows[found_rows["strength"] == strength]
    e, a = changes(here, start, "wanted"), changes(here, start, "unwanted")
    estimate = hierarchical_bootstrap((e, a), statistic=lambda x, y: x - y, seed=seed, draws=draws)
    return replace(estimate, p=sign_flip_p((e.values - a.values).mean(axis=(0, 2)), seed=seed, draws=draws))


def canby(rows: pd.DataFrame, start: pd.DataFrame, strength: float) -> dict[str, Any]:
    """Completeness, selectivity and their harmonic mean as in arXiv 2408.15510, on the odds of the two stances.

    p = 1 / (1 + exp(-margin)), goal 0 for a negative strength and 1 for a positive one. Completeness = 1 - |p - goal| on
    the wanted side; selectivity = 1 - |p - p_base| / max(p_base, 1 - p_base) on the unwanted one; means over prompts.
    """
    here = rows[rows["strength"] == strength]

    def odds(side: str) -> tuple[np.ndarray, np.ndarray]:
        part = here[here["set"] == side]
        base = start[start["set"] == side].set_index("id")["value"].loc[part["id"]].to_numpy()
        return expit(part["value"].to_numpy()), expit(base)

    goal = 1.0 if strength > 0 else 0.0
    complete = float((1 - np.abs(odds("wanted")[0] - goal)).mean())
    now, before = odds("unwanted")
    selective = float((1 - np.abs(now - before) / np.maximum(before, 1 - before)).mean())
    both = complete + selective
    return {
        "formula": "C = mean(1 - |p - goal|) on wanted, S = mean(1 - |p - p0| / max(p0, 1 - p0)) on unwanted, 2CS/(C+S)",
        "completeness": complete,
        "selectivity": selective,
        "harmonic mean": 2 * complete * selective / both if both else 0.0,
    }


def rival(
    learned: pd.DataFrame,
    other: pd.DataFrame,
    start: pd.DataFrame,
    *,
    seed: int,
    draws: int = 10_000,
    grids: Mapping[str, Grid] | None = None,
) -> dict[str, Any]:
    """What the learned gates do more than a null family or control task at equal dose, in rows of one strength each set.

    `estimate`: the learned gates' separation s(E - A), in the direction s of their strength, minus the rival's |E - A|;
    that is what the verdict asks for, since a control that turns both sides alike selects nothing, however strong it is.
    `effect`: learned |E| minus theirs. Nulls are paired with the gates they were drawn from; sets of controls are
    resampled on their own. Both are None where no set could be matched; `unmatched` says why those were not. `grids`: the
    learned gates' `changes` by side, for whoever has them already.
    """
    lost = other[other["why"] != ""]
    rows = other[other["why"] == ""]
    why = [f"{row.seed}: {row.why}" for row in lost.itertuples()] if "seed" in lost else list(lost["why"])
    if not len(rows):
        return {"estimate": None, "effect": None, "sets": [], "unmatched": why}
    names = sorted(set(rows["seed"]))
    grids = grids or {side: changes(learned, start, side) for side in SIDES}
    paired = set(names) <= set(learned["seed"])
    kept = [i for i, name in enumerate(grids["wanted"].seeds) if name in names or not paired]
    direction = 1.0 if float(learned["strength"].iloc[0]) > 0 else -1.0
    e, a = (grids[side].values[kept] for side in SIDES)
    theirs = {side: changes(rows, start, side).values for side in SIDES}
    c, b = theirs.values()
    estimate = family_contrast(
        (e, a),
        (c, b),
        lambda e, a, c, b: direction * (e - a) - np.abs(c - b),
        paired=paired,
        seed=seed,
        draws=draws,
    )
    effect = family_contrast((e,), (c,), lambda e, c: np.abs(e) - np.abs(c), paired=paired, seed=seed, draws=draws)
    doses = rows.groupby("seed")["dose"].first()
    kls = rows.groupby("seed")["kl"].first()
    sets = [
        {"set": name, "dose": float(doses[name]), "kl": float(kls[name])}
        | {side: float(theirs[side][i].mean()) for side in SIDES}
        for i, name in enumerate(names)  # grids have their sets in sorted order too
    ]
    return {"estimate": estimate, "effect": effect, "sets": sets, "unmatched": why}


def rank(learned: float, controls: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Where a value of the learned gates ranks among the sizes of the control sets' values at equal dose: p = (b + 1) /
    (K + 1), by set (None below 19 sets, where p could not reach .05) and, tasks being clusters, by each task's mean."""
    sets = [abs(value) for values in controls.values() for value in values]
    means = [float(np.mean(np.abs(values))) for values in controls.values() if len(values)]
    enough = len(sets) >= FEWEST_NULLS
    return {
        "sets": len(sets),
        "p": p_from_null(learned, sets, alternative="greater") if enough else None,
        "tasks": len(means),
        "p_tasks": (sum(m >= learned for m in means) + 1) / (len(means) + 1) if means else None,
    }


@dataclass(frozen=True, kw_only=True)
class Spared:
    """A TOST on each damage measure: those `tests` that the verdict judges, of which those in `blind` missed gates known
    to damage; `underpowered` ones have fewer records than 80% power takes at their margin; the rest is `described`."""

    tests: dict[str, Equivalence]
    underpowered: dict[str, Equivalence]
    blind: list[str]
    described: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Every test with what it counts for, as plain JSON values."""
        both = [*self.tests.items(), *self.underpowered.items()]
        return {n: t.to_json() | {"blind": n in self.blind, "judged": n in self.tests} for n, t in both}


def spared_abilities(items: pd.DataFrame, neutral: pd.DataFrame, damaging: str) -> Spared:
    """A TOST on each damage measure.

    Items and refusals: margins within 0.2 SD of the paired differences, judged from as many records on as 80% power
    takes (a number that depends on the margin alone); perplexity: at most 5% up, on log ratios a text. Gate sets are
    averaged item by item. `damaging` is the `seed` of the rows under gates known to damage.
    """
    tests: dict[str, Equivalence] = {}
    underpowered: dict[str, Equivalence] = {}
    blind = []
    for name, rows, value, margin in _measures(items, neutral):
        start = rows[rows["seed"] == ""].set_index("id")[value]

        def tested(part: pd.DataFrame, start: Any = start, value: str = value, margin: Any = margin) -> Equivalence:
            moved = part[value].to_numpy() - start.loc[part["id"]].to_numpy()
            ids = part["id"].to_numpy()
            return tost(moved, ids, margin=_item_margin(moved, ids) if margin is None else margin)

        test = tested(rows[~rows["seed"].isin(["", damaging])])
        few = margin is None and test.n_for_80_power is not None and test.n < test.n_for_80_power
        (underpowered if few else tests)[name] = test
        known = tested(rows[rows["seed"] == damaging])
        seen = known.estimate.low > 0 or known.estimate.high < 0
        if not seen or known.passed:
            blind.append(name)
    return Spared(tests=tests, underpowered=underpowered, blind=blind, described=_described(items, damaging))


def _item_margin(moved: np.ndarray, ids: np.ndarray) -> float:
    """`item_margin`, and any margin at all for differences that do not vary: `tost` calls those uninformative."""
    try:
        return item_margin(moved, ids)
    except InputError:  # too few items are refused by `tost` as well
        return ITEM_MARGIN


def _measures(items: pd.DataFrame, neutral: pd.DataFrame) -> list[tuple[str, pd.DataFrame, str, Any]]:
    rate = neutral.assign(rate=neutral["nll"] / neutral["tokens"])
    found: list[tuple[str, pd.DataFrame, str, Any]] = [
        (f"{name} margin", part, "value", None) for name, part in items.groupby("set", sort=True)
    ]
    limit = (None, math.log(PERPLEXITY_RATIO))
    return found + [(f"perplexity, {name}", part, "rate", limit) for name, part in rate.groupby("set", sort=True)]


def _described(items: pd.DataFrame, damaging: str) -> dict[str, Any]:
    """Four-choice accuracy: described, not tested, below 1,100 items. Nothing where there are no items."""
    rows = items[items["right"].notna()] if "right" in items else items.iloc[:0]
    if not len(rows):
        return {}
    found = {}
    for label, part in (("start", rows[rows["seed"] == ""]), ("gated", rows[~rows["seed"].isin(["", damaging])])):
        found[label] = float(part["right"].mean())
    return {"four-choice accuracy": found, "items": int(rows["id"].nunique())}
