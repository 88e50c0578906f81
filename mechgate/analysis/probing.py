"""Is the knowledge that a claim is false kept while the behaviour goes? Linear probes before and after gating.

Two things are read off the activations of the same prompts: the side (is the claim true?) and the stance that the
model then takes (does it agree more than it does with most claims of that side in that wording?). Stance labels are
those of the model as it is gated, and have nothing to do with the side by design. Selectivity is Hewitt and Liang's
(2019, arXiv 1909.03368): accuracy minus that on a control task, where every claim has a random label of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mechgate.data.factorial import Factorial
from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.estimates import Estimate
from mechgate.stats.hierarchical import hierarchical_bootstrap
from mechgate.stats.probes import cross_validated

C = 0.01
"""Inverse penalty of all probes: fixed beforehand, so that nothing is chosen on the facts that are reported."""
MARGIN = 0.05
"""How much of a probe's accuracy (0 to 1) may be lost where something is called kept."""
CHANCE = 0.5
Arrays = Mapping[str, np.ndarray]


def side_labels(design: Factorial) -> np.ndarray:
    """Whether each prompt is of the safe side (a true claim): [n_prompts]."""
    return np.tile([False, True], len(design.prompts) // 2)


def stance_labels(margins: np.ndarray, design: Factorial) -> np.ndarray:
    """Whether each prompt's stance margin is above the median of its side and wording: [n_prompts].

    Half of every cell is, so that the labels say nothing about side or wording. Raises `InputError` for margins that
    do not vary within a cell.
    """
    grid = np.asarray(margins, dtype=np.float64).reshape(design.shape)
    above = grid > np.median(grid, axis=0)
    if not above.any(axis=0).all():
        raise InputError("the stance does not vary between facts, so that nothing can be probed", got="equal margins")
    return above.ravel()


def control_labels(design: Factorial, *, seed: int) -> np.ndarray:
    """A control task: half of all claims, drawn at random, have the label; the same in all wordings. [n_prompts]."""
    facts, phrasings, sides = design.shape
    claims = np.arange(facts * sides) < facts * sides // 2
    drawn = rng(seed, "control task").permutation(claims).reshape(facts, 1, sides)
    return np.broadcast_to(drawn, (facts, phrasings, sides)).ravel()


def probe_arrays(
    x: np.ndarray,
    design: Factorial,
    *,
    n_folds: int,
    seed: int,
    base: np.ndarray | None = None,
    stance: tuple[np.ndarray, np.ndarray] | None = None,
    controls: int = 2,
    c: float = C,
) -> dict[str, np.ndarray]:
    """What probes read off `x` [n_prompts, n_layers, d]: 0 or 1 a prompt and layer, [n_prompts, n_layers].

    "side" and "stance" are right or wrong on held-out facts, by probes fitted on these activations; "side transfer" and
    "stance transfer" by probes fitted on the same other facts in `base`, the activations without gates. `stance` holds
    the labels without and with gates; without it there are no stance probes. "side wordings" is right or wrong on
    held-out wordings of known claims (of two phrasings at least), where a probe may learn claims by heart. "control"
    and "control wordings" are the shares right on `controls` control tasks, in the same two ways: on held-out facts
    there is nothing to learn, on held-out wordings there is no more than claims to be learned by heart.
    """
    facts, phrasings, sides = design.shape
    by_fact = np.repeat(design.folds(n_folds), phrasings * sides).tolist()
    by_wording = np.tile(np.repeat(np.arange(phrasings), sides), facts).tolist()
    side = side_labels(design)
    drawn = [control_labels(design, seed=seed + i) for i in range(controls)]
    parts: dict[str, list[np.ndarray]] = {}

    def add(name: str, values: np.ndarray) -> None:
        parts.setdefault(name, []).append(values)

    for layer in range(x.shape[1]):
        here = x[:, layer]
        add("side", cross_validated(here, side, by_fact, c)[0])
        if base is not None:
            add("side transfer", cross_validated(base[:, layer], side, by_fact, c, read=[(here, side)])[1])
        if stance is not None:
            before, after = stance
            add("stance", cross_validated(here, after, by_fact, c)[0])
            if base is not None:
                read = cross_validated(base[:, layer], before, by_fact, c, read=[(here, after)])
                add("stance transfer", read[1])
        if drawn:
            add("control", np.mean([cross_validated(here, one, by_fact, c)[0] for one in drawn], axis=0))
        if phrasings > 1:
            add("side wordings", cross_validated(here, side, by_wording, c)[0])
            if drawn:
                found = [cross_validated(here, one, by_wording, c)[0] for one in drawn]
                add("control wordings", np.mean(found, axis=0))
    return {name: np.stack(values, axis=1) for name, values in parts.items()}


def probe_numbers(
    design: Factorial, base: Arrays, gates: Mapping[str, Arrays], *, seed: int, draws: int, margin: float = MARGIN
) -> dict[str, Any]:
    """Accuracies without gates and with each seed's, by layer and over all layers, and what became of the knowledge.

    `gates`: `probe_arrays` at one strength by seed. Over layers rather than at the best one, so that no layer is chosen.
    `tasks[name]`: `before` and `after` (mean accuracy a layer), `base` (accuracy minus .5), `change` (gated minus base:
    for a transfer, minus the base's own accuracy on the same facts) with intervals over facts and seeds, and `outcome`:
    "kept" (90% interval of the change within `margin`), "lost" (95% interval below 0, and not kept), "gained",
    "uninformative" (the base's accuracy is not clear of chance) or "cannot be told". `selectivity`: accuracy minus
    control, on held-out facts and on held-out wordings, before and after, by layer.
    """
    tasks: dict[str, Any] = {}
    for name in ("side", "side transfer", "stance", "stance transfer"):
        own = name.removesuffix(" transfer")
        if own not in base or any(name not in arrays for arrays in gates.values()):
            continue
        before, after = base[own], np.stack([arrays[name] for arrays in gates.values()])
        start = _over_layers(before[None], design)
        grids = _over_layers(after - before[None], design)
        level = hierarchical_bootstrap(start - CHANCE, seed=seed, draws=draws)
        change = hierarchical_bootstrap(grids, seed=seed, draws=draws)
        tight = hierarchical_bootstrap(grids, seed=seed, draws=draws, level=0.9)
        tasks[name] = {
            "before": before.mean(axis=0).tolist(),
            "after": after.mean(axis=(0, 1)).tolist(),
            "base": level.to_json(),
            "change": change.to_json(),
            "change, 90%": tight.to_json(),
            "outcome": fate(level, change, tight, margin),
        }
    return {"margin": margin, "tasks": tasks, "selectivity": _selectivity(base, list(gates.values()))}


def fate(level: Estimate, change: Estimate, tight: Estimate, margin: float) -> str:
    """What became of what a probe could read: see `probe_numbers`. `level` is minus chance, `tight` the 90% interval."""
    if level.low <= 0:
        return "uninformative"
    if -margin < tight.low and tight.high < margin:
        return "kept"
    if change.high < 0:
        return "lost"
    return "gained" if change.low > 0 else "cannot be told"


def _over_layers(values: np.ndarray, design: Factorial) -> np.ndarray:
    """[seeds, n_prompts, layers] as a grid [seeds, facts, cells], meaned over layers."""
    return values.mean(axis=2).reshape(len(values), design.shape[0], -1)


def _selectivity(base: Arrays, gates: Sequence[Arrays]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (task, control) in {
        "facts": ("side", "control"),
        "wordings": ("side wordings", "control wordings"),
    }.items():
        if any(needed not in one for needed in (task, control) for one in (base, *gates)):
            continue
        found[name] = {
            when: {
                "accuracy": np.mean([one[task] for one in arrays], axis=(0, 1)).tolist(),
                "control": np.mean([one[control] for one in arrays], axis=(0, 1)).tolist(),
            }
            for when, arrays in (("before", [base]), ("after", gates))
        }
    return found
