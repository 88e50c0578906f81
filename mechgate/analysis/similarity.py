"""Do gates change how a model represents unsafe prompts, and leave how it represents safe ones as it was?

Every claim is a difference of differences: the change that gates make on unsafe prompts minus that on safe ones,
matched in topic, wording and length. A change is measured in three ways, each blind to something: `size`,
||dh|| / ||h||, sees everything; `beyond`, the same after the best common scaling, does not see a damping of the whole
representation; `rows`, how far a prompt's distances to the others of its side were reordered (RSA by prompt), sees
neither scaling nor what moves all prompts of a side alike.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mechgate.data.factorial import SIDES, Factorial
from mechgate.errors import InputError
from mechgate.stats.cka import debiased_cka
from mechgate.stats.estimates import Estimate
from mechgate.stats.hierarchical import hierarchical_bootstrap
from mechgate.stats.multiplicity import max_t
from mechgate.stats.permutation import FEWEST_NULLS, p_from_null, sign_flip_p
from mechgate.stats.rsa import row_change, scaled

CHANGES = ("size", "beyond", "rows")
GROUPS = ("all", *SIDES)
CKA = {
    "plain": {},
    "z-scored": {"z_score": True},
    "without top 1": {"drop": 1},
    "without top 3": {"drop": 3},
    "without top 5": {"drop": 5},
}
MARGIN = 0.1
"""Below this share of the mean change, a difference of changes is called none."""
MOSTLY = 2 / 3
"""A share of this size: the other side changes half as much (1 - safe/unsafe = .5, as sigma of the verdicts)."""
Arrays = Mapping[str, np.ndarray]


def change_arrays(base: np.ndarray, gated: np.ndarray, units: np.ndarray, design: Factorial) -> dict[str, np.ndarray]:
    """What gates changed, prompt by prompt: "size", "beyond" and "rows" [n_prompts, n_layers], and "cka" [variants,
    groups, n_layers] in the order of `CKA` and `GROUPS`. Activations [n_prompts, n_layers, d] of the same prompts."""
    if base.shape != gated.shape or len(base) != len(design.prompts):
        raise InputError("activations of the same prompts and layers are compared", got=f"{base.shape}, {gated.shape}")
    n_layers = base.shape[1]
    found = {name: np.empty((len(base), n_layers)) for name in CHANGES}
    cka = np.empty((len(CKA), len(GROUPS), n_layers))
    for layer in range(n_layers):
        before, after = base[:, layer].astype(np.float64), gated[:, layer].astype(np.float64)
        sizes, common = np.linalg.norm(before, axis=1), (before * after).sum() / max((after**2).sum(), 1e-300)
        found["size"][:, layer] = np.linalg.norm(after - before, axis=1) / sizes
        found["beyond"][:, layer] = np.linalg.norm(common * after - before, axis=1) / sizes
        before, after = scaled(before, units[layer]), scaled(after, units[layer])
        for side in range(2):
            found["rows"][side::2, layer] = row_change(before[side::2], after[side::2])
        rows = {"all": slice(None), "unsafe": slice(0, None, 2), "safe": slice(1, None, 2)}
        for i, options in enumerate(CKA.values()):
            for j, group in enumerate(GROUPS):
                # CKA is of the activations as they are: outliers are dropped or scaled by its own options.
                cka[i, j, layer] = debiased_cka(base[rows[group], layer], gated[rows[group], layer], **options)
    return {**found, "cka": cka}


def change_numbers(
    design: Factorial,
    gates: Mapping[str, Arrays],
    nulls: Mapping[str, Arrays],
    controls: Mapping[str, Arrays],
    *,
    seed: int,
    draws: int,
    margin: float = MARGIN,
) -> dict[str, Any]:
    """The differences of differences of all three changes, at one strength; `change_arrays` by gate seed and by rival.

    A change's entry: `unsafe`, `safe` (mean a layer), `difference` (a layer, with its interval over facts and seeds, and `p`:
    max-T over layers, facts as clusters), `overall` (mean over layers, with the exact or drawn sign-flip p over facts),
    `share` (overall over the mean change of both sides: comparable between gates that do unequally much; None where
    nothing changes), `rivals` (each null's and control's share and differences), and the `outcome` of `judged`.
    """
    found: dict[str, Any] = {}
    for name in CHANGES:
        grid = _grid([arrays[name] for arrays in gates.values()], design)  # [seeds, facts, phrasings, sides, layers]
        gap, both = grid[..., 0, :] - grid[..., 1, :], grid.mean(axis=3)
        layers = [hierarchical_bootstrap(gap[..., i], seed=seed, draws=draws).to_json() for i in range(gap.shape[-1])]
        by_fact = gap.mean(axis=(0, 2))  # [facts, layers]
        tested = np.ptp(by_fact, axis=0) > 1e-12 * max(float(np.abs(by_fact).max()), 1e-300)
        p = np.ones(len(tested))
        if tested.any():
            p[tested] = max_t(by_fact[:, tested], seed=seed, draws=draws).p
        overall = hierarchical_bootstrap(gap.mean(axis=-1), seed=seed, draws=draws)
        mean = hierarchical_bootstrap(both.mean(axis=-1), seed=seed, draws=draws)
        share = None
        if mean.low > 1e-9:
            pair = (gap.mean(axis=-1), both.mean(axis=-1))
            share = hierarchical_bootstrap(pair, statistic=lambda a, b: a / b, seed=seed, draws=draws)
        rivals = {
            kind: {other: _rival(arrays[name], design) for other, arrays in group.items()}
            for kind, group in (("null", nulls), ("control", controls))
        }
        outcome, reason = judged(share, *(_shares(rivals[kind]) for kind in ("null", "control")), margin=margin)
        found[name] = {
            "unsafe": grid[..., 0, :].mean(axis=(0, 1, 2)).tolist(),
            "safe": grid[..., 1, :].mean(axis=(0, 1, 2)).tolist(),
            "difference": layers,
            "p": p.tolist(),
            "overall": {**overall.to_json(), "p": sign_flip_p(by_fact.mean(axis=1), seed=seed, draws=draws)},
            "mean": mean.to_json(),
            "share": None if share is None else share.to_json(),
            "seeds": dict(zip(gates, gap.mean(axis=(1, 2, 3)).tolist(), strict=True)),
            "rivals": rivals,
            "outcome": outcome,
            "reason": reason,
        }
    return found


def judged(
    share: Estimate | None, nulls: list[float], controls: list[float], *, margin: float = MARGIN
) -> tuple[str, str]:
    """An outcome and its reason, from the share and those of null and control gates.

    "no change"; "not selective": the interval is within the margin, or a rival reaches the share; "cannot be told": the
    interval holds 0 and more than the margin, or there are no nulls; "beyond nulls": clear of 0 and beyond every null,
    with no trained control to compare; "selective": beyond every control too, and the whole interval says that the other
    side changes less than half as much; "partly selective": not that much. The reason names the side.
    """
    if share is None:
        return "no change", "the gates change nothing"
    side = 1 if share.value > 0 else -1
    if -margin < share.low and share.high < margin:
        return "not selective", f"the interval of the share is within ±{margin:g}"
    if share.low <= 0 <= share.high:
        return "cannot be told", "the interval of the share holds 0 and more than the margin"
    for kind, values in (("null", nulls), ("control", controls)):
        # Within rounding: the static mean of a static gate is that gate.
        if reach := sum(side * v >= side * share.value * (1 - 1e-6) for v in values):
            return "not selective", f"{reach} of {len(values)} {kind} gate set(s) reach it"
    if not nulls:
        return "cannot be told", "no null gates were compared"
    p = f", p = {p_from_null(share.value, nulls):.3g}" if len(nulls) >= FEWEST_NULLS else ""
    word = f"{'un' if side > 0 else ''}safe prompts change more"
    if not controls:
        return "beyond nulls", f"{word} than by {len(nulls)} null gate set(s){p}; no trained control was compared"
    outcome = "selective" if min(abs(share.low), abs(share.high)) > MOSTLY else "partly selective"
    return outcome, f"{word} than by {len(nulls)} null{p} and {len(controls)} control gate set(s)"


def _grid(arrays: list[np.ndarray], design: Factorial) -> np.ndarray:
    return np.stack([array.reshape(*design.shape, -1) for array in arrays])


def _rival(values: np.ndarray, design: Factorial) -> dict[str, Any]:
    grid = _grid([values], design)[0].mean(axis=(0, 1))  # [sides, layers]
    gap, mean = grid[0] - grid[1], grid.mean()
    # Gates that change nothing change neither side more.
    share = float(gap.mean() / mean) if mean > 1e-9 else 0.0
    return {"share": share, "mean": float(mean), "overall": float(gap.mean()), "difference": gap.tolist()}


def _shares(rivals: Mapping[str, Any]) -> list[float]:
    return [one["share"] for one in rivals.values()]
