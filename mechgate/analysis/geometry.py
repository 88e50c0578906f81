"""What orders the conditions in a layer? RDMs against models of side, domain, phrasing and length; and across gating."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mechgate.data.factorial import Factorial
from mechgate.stats.permutation import p_from_null
from mechgate.stats.rsa import compare_rdms, model_rdm, noise_ceiling, partial_rho, rdm, scaled, side_swaps

MODELS = ("side", "domain", "phrasing", "length")
Arrays = Mapping[str, np.ndarray]


def condition_arrays(
    x: np.ndarray, units: np.ndarray, design: Factorial, *, n_folds: int, seed: int, permutations: int = 0
) -> dict[str, np.ndarray]:
    """The conditions' RDMs of activations `x` [n_prompts, n_layers, d], with dimensions in `units` [n_layers, d].

    "rdm" (squared Euclidean) and "crossnobis" (folds of disjoint facts): [n_layers, pairs], over domain x phrasing x
    side in the order of `Factorial.cells`. "rdm by fold": [n_folds, n_layers, pairs]. With `permutations`: "swap p" [n_layers], the
    p-value of the model "another side" by swaps of sides within facts, and "swap p, all layers" against the largest
    value over layers in each draw.
    """
    facts, phrasings, _ = design.shape
    labels, folds = design.conditions(), np.repeat(design.folds(n_folds), phrasings * 2)
    found: dict[str, list[np.ndarray]] = {"rdm": [], "crossnobis": [], "rdm by fold": []}
    observed, null = [], []
    for layer in range(x.shape[1]):
        here = scaled(x[:, layer], units[layer])
        found["rdm"].append(rdm(here, labels))
        found["crossnobis"].append(rdm(here, labels, folds=folds.tolist()))
        parts = [rdm(here[folds == k], [labels[i] for i in np.flatnonzero(folds == k)]) for k in range(n_folds)]
        found["rdm by fold"].append(np.stack(parts))
        if permutations:
            grid = here.reshape(facts, phrasings, 2, -1)
            value, drawn = side_swaps(grid, design.domains, seed=seed, draws=permutations)
            observed.append(value)
            null.append(drawn)
    arrays = {name: np.stack(values, axis=-2) for name, values in found.items()}
    if permutations:
        largest = np.max(null, axis=0)
        arrays["swap p"] = np.array(
            [p_from_null(v, n, alternative="greater") for v, n in zip(observed, null, strict=True)]
        )
        arrays["swap p, all layers"] = np.array([p_from_null(v, largest, alternative="greater") for v in observed])
    return arrays


def model_rdms(design: Factorial) -> dict[str, np.ndarray]:
    """The models' RDMs over conditions, [pairs]: another side, another domain, another phrasing, difference in mean
    length (characters). A model that is the same for all pairs (one phrasing) is left out."""
    labels, lengths = np.array(design.conditions()), np.array(design.lengths(), dtype=float)
    cells = design.cells()
    domains, phrasings, sides = (model_rdm([cell[i] for cell in cells]) for i in range(3))
    mean = [float(lengths[labels == c].mean()) for c in range(len(cells))]
    found = {"side": sides, "domain": domains, "phrasing": phrasings, "length": model_rdm(mean)}
    return {name: vector for name, vector in found.items() if np.ptp(vector) > 0}


def geometry_numbers(design: Factorial, base: Arrays, gates: Mapping[str, Arrays], *, panel: int) -> dict[str, Any]:
    """RSA without gates and with them at one strength, a list over layers each; `condition_arrays` by gate seed.

    `models[distance][name]`: rho-a of the RDM with the model, `before` and `after` (mean over seeds), and `partial`, the
    partial rank correlation given all other models, in the same two. `swap p`: of the side model, before, and after by
    seed (alone, and over all layers). `kept`: rho-a between the RDMs before and after. `ceiling`: what any model could
    reach, `before` over folds of disjoint facts, `after` over gate seeds (None for one), as [low, high]. `panels`: the
    RDMs themselves before and after at the `panel`-th layer (squared distance in standard deviations, a dimension).
    """
    models = model_rdms(design)
    arms = {"before": [base], "after": list(gates.values())}
    numbers: dict[str, Any] = {"cells": [" / ".join(cell) for cell in design.cells()], "models": {}}
    for distance in ("rdm", "crossnobis"):
        numbers["models"][distance] = {name: _model(name, models, arms, distance) for name in models}
    n_layers = len(base["rdm"])
    pairs = [[compare_rdms(base["rdm"][i], one["rdm"][i])[0, 0] for i in range(n_layers)] for one in gates.values()]
    numbers["kept"] = np.mean(pairs, axis=0).tolist()
    by_seed = [np.stack([one["rdm"][i] for one in gates.values()]) for i in range(n_layers)]
    numbers["ceiling"] = {
        "before": [list(noise_ceiling(base["rdm by fold"][:, i])) for i in range(n_layers)],
        "after": [list(noise_ceiling(one)) for one in by_seed] if len(gates) > 1 else None,
    }
    for name in ("swap p", "swap p, all layers"):
        after = {seed: one[name].tolist() for seed, one in gates.items() if name in one}
        numbers[name] = {"before": base[name].tolist() if name in base else None, "after": after}
    numbers["panels"] = {
        when: np.mean([one["rdm"][panel] for one in some], axis=0).tolist() for when, some in arms.items()
    }
    return numbers


def _model(name: str, models: Mapping[str, np.ndarray], arms: Mapping[str, list[Arrays]], distance: str) -> dict:
    others = np.stack([vector for other, vector in models.items() if other != name])
    found: dict[str, Any] = {"partial": {}}
    for when, arrays in arms.items():
        rdms = np.stack([one[distance] for one in arrays])  # [seeds, layers, pairs]
        whole = compare_rdms(rdms.reshape(-1, rdms.shape[-1]), models[name])[:, 0].reshape(rdms.shape[:2])
        left = np.array([[partial_rho(vector, models[name], others) for vector in one] for one in rdms])
        found[when], found["partial"][when] = whole.mean(axis=0).tolist(), left.mean(axis=0).tolist()
    return found
