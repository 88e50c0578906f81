"""Representational similarity analysis: dissimilarities of conditions (RDMs), compared with models and with each other.

Distances, comparisons and noise ceilings are rsatoolbox's (Schutt et al. 2023, eLife 12, e82566); an RDM is handled as
the vector of its upper triangle, row by row, over conditions in sorted order. rsatoolbox draws from numpy's global
generator in places: every call stands inside `seeding.numpy_seeded`, which leaves that generator as it was.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError, check_choice
from mechgate.seeding import numpy_seeded, rng
from mechgate.stats.samples import LARGEST, whole_number

METHODS = ("euclidean", "crossnobis")
COMPARISONS = ("rho-a", "spearman")
_BATCH = 500


def rdm(x: ArrayLike, conditions: Sequence[int], *, folds: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Squared distances between the conditions' mean patterns, a dimension: vector of the upper triangle.

    `x` [rows, dimensions], with a condition (whole number) a row. Without `folds` squared Euclidean, which noise makes
    larger. With a fold a row, crossnobis without noise covariance: the products of differences in one fold with those
    in the others, whose mean is 0 where two conditions differ by noise only (and which may be negative). Every fold
    needs every condition; let folds be disjoint facts. Scale dimensions beforehand if loud ones should not decide.
    """
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 2 or len(array) != len(conditions) or not (np.abs(array) < LARGEST).all():
        raise InputError(
            "an RDM needs finite patterns with one condition each", got=f"{array.shape}, {len(conditions)} conditions"
        )
    if len(set(conditions)) < 3:
        raise InputError("an RDM needs at least three conditions", got=len(set(conditions)))
    # Names as floats: rsatoolbox fills arrays of their kind with NaN.
    described: dict[str, Any] = {"condition": list(map(float, conditions))}
    if folds is not None:
        cells = {(c, f) for c, f in zip(conditions, folds, strict=True)}
        if len(set(folds)) < 2 or len(cells) != len(set(conditions)) * len(set(folds)):
            raise InputError("crossnobis needs two folds at least, with every condition in each", got=len(set(folds)))
        described["fold"] = list(map(float, folds))
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.calc import calc_rdm

    with numpy_seeded(0, "rsatoolbox"):
        # Sorted, since rsatoolbox orders conditions as it meets them.
        order = np.argsort(np.asarray(conditions), kind="stable")
        sorted_by = {name: [values[i] for i in order] for name, values in described.items()}
        data = Dataset(array[order], obs_descriptors=sorted_by)
        if folds is None:
            found: Any = calc_rdm(data, method="euclidean", descriptor="condition")
        else:
            found = calc_rdm(data, method="crossnobis", descriptor="condition", cv_descriptor="fold")
    return np.asarray(found.get_vectors()[0], dtype=np.float64)


def units_of(base: ArrayLike) -> NDArray[np.float64]:
    """What distances are measured in: each dimension's standard deviation over prompts [n_prompts, ...].

    Taken without gates and used for all arms, so that a change of scale stays a change; loud dimensions do not decide.
    """
    return np.asarray(base, dtype=np.float64).std(axis=0)


def scaled(x: NDArray, units: NDArray) -> NDArray[np.float64]:
    """Activations in those units; dimensions that did not vary are left out (as 0)."""
    varies = units > 1e-9 * units.max(initial=0.0)
    return np.where(varies, x / np.where(varies, units, 1.0), 0.0)


def model_rdm(values: Sequence[str] | Sequence[float] | NDArray) -> NDArray[np.float64]:
    """A model's RDM over conditions: 0 or 1 for names (the same, another), absolute differences for numbers."""
    given = np.asarray(values)
    rows, columns = np.triu_indices(len(given), 1)
    if given.dtype.kind in "US":
        return (given[rows] != given[columns]).astype(np.float64)
    return np.abs(given[rows].astype(np.float64) - given[columns])


def compare_rdms(first: ArrayLike, second: ArrayLike, *, method: str = "rho-a") -> NDArray[np.float64]:
    """Every RDM of `first` [a, pairs] with every one of `second` [b, pairs]: [a, b].

    "rho-a": Spearman's correlation averaged over random orders of ties, right where a model has ties (its largest value
    is then below 1); "spearman" otherwise. Raises `InputError` for other methods and RDMs of different size.
    """
    check_choice("method", method, COMPARISONS)
    one, other = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (first, second))
    if one.shape[1] != other.shape[1]:
        raise InputError(
            "RDMs of different conditions cannot be compared", got=f"{one.shape[1]}, {other.shape[1]} pairs"
        )
    from rsatoolbox.rdm.compare import compare

    with numpy_seeded(0, "rsatoolbox"):
        return np.asarray(compare(_rdms(one), _rdms(other), method=method), dtype=np.float64)


def partial_rho(data: ArrayLike, target: ArrayLike, confounds: ArrayLike) -> float:
    """Rank correlation of two RDMs without what the confounds' ranks explain of either linearly; 0 if nothing is left.

    `data` and `target` [pairs], `confounds` [k, pairs].
    """
    ranks = scipy.stats.rankdata(np.vstack([np.atleast_2d(v) for v in (data, target, confounds)]), axis=1)
    regressors = np.column_stack([np.ones(ranks.shape[1]), ranks[2:].T])
    left = ranks[:2].T - regressors @ np.linalg.lstsq(regressors, ranks[:2].T, rcond=None)[0]
    sizes, whole = np.linalg.norm(left, axis=0), np.linalg.norm(ranks[:2] - ranks[:2].mean(), axis=1)
    if (sizes <= 1e-9 * np.maximum(whole, 1)).any():
        return 0.0
    return float(left[:, 0] @ left[:, 1] / sizes.prod())


def noise_ceiling(rdms: ArrayLike, *, method: str = "rho-a") -> tuple[float, float]:
    """How well any model could do on RDMs [n >= 2, pairs] of the same conditions, from seeds or from disjoint facts.

    The mean comparison of each RDM with the pool of the others (low), and with the pool of all (high).
    """
    array = np.atleast_2d(np.asarray(rdms, dtype=np.float64))
    check_choice("method", method, COMPARISONS)
    if len(array) < 2:
        raise InputError("a noise ceiling needs two RDMs at least", got=len(array))
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling

    with numpy_seeded(0, "rsatoolbox"):
        low, high = boot_noise_ceiling(_rdms(array), method=method)
    return float(low), float(high)


def row_change(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """How far each item's distances to the other items were reordered: 1 - Spearman, [n], from 0 (not) to 2 (reversed).

    `before` and `after` [n >= 4, dimensions]. Distances are squared Euclidean; a common scaling or rotation of all items
    changes nothing. An item with equal distances to all others, before or after, has none to reorder and is an error.
    """
    ranks = []
    for array in (np.asarray(v, dtype=np.float64) for v in (before, after)):
        if array.ndim != 2 or len(array) < 4 or not (np.abs(array) < LARGEST).all():
            raise InputError("rows of an RDM need at least 4 items of finite numbers", got=array.shape)
        n = len(array)
        whole = np.zeros((n, n))
        whole[np.triu_indices(n, 1)] = rdm(array, range(n))
        whole += whole.T
        # Beside each item the others only; rounding must not break ties.
        others = whole[~np.eye(n, dtype=bool)].reshape(n, n - 1)
        others = np.round(others / max(float(others.max()), 1e-300), 12)
        ranks.append(scipy.stats.rankdata(others, axis=1) - n / 2)
    sizes = [np.sqrt((rank**2).sum(axis=1)) for rank in ranks]
    if len(ranks[0]) != len(ranks[1]) or (np.minimum(*sizes) == 0).any():
        raise InputError("an item has no distances to reorder, or the items differ", got=f"{len(ranks[0])} items")
    return 1 - (ranks[0] * ranks[1]).sum(axis=1) / (sizes[0] * sizes[1])


def side_swaps(
    x: ArrayLike, domains: Sequence[str], *, seed: int, draws: int = 10_000
) -> tuple[float, NDArray[np.float64]]:
    """rho-a of the conditions' RDM with the model "another side", and the same after `draws` swaps of sides by facts.

    `x` [facts, phrasings, 2 sides, dimensions]; conditions are domain x phrasing x side. Each draw swaps, for every
    fact by a fair coin, which of its two sides is called unsafe, in all its phrasings: exact where sides are alike but
    for their name, whatever facts and phrasings do. The p-value is (b + 1) / (draws + 1): see `p_from_null`. Equal
    seeds and numbers of facts give equal swaps, so that layers can be taken together (the largest of each draw).
    """
    array = np.asarray(x, dtype=np.float64)
    draws = whole_number(draws, "draws", least=1)
    if array.ndim != 4 or array.shape[2] != 2 or array.shape[0] != len(domains):
        raise InputError("swaps need [facts, phrasings, 2, dimensions]", got=array.shape)
    facts, phrasings = array.shape[:2]
    names = sorted(set(domains))
    members = [np.flatnonzero(np.asarray(domains) == name) for name in names]
    centre = np.stack([array[of].mean(axis=(0, 2)) for of in members])  # [domains, phrasings, d]
    half = (array[:, :, 0] - array[:, :, 1]) / 2  # [facts, phrasings, d]
    # Distances only need the patterns' span, which is smaller than the space.
    basis = np.vstack([centre.reshape(-1, array.shape[3]), half.reshape(-1, array.shape[3])])
    values, vectors = np.linalg.eigh(basis @ basis.T)
    spanned = vectors * np.sqrt(np.maximum(values, 0))
    centre = spanned[: centre[..., 0].size].reshape(len(names), phrasings, -1)
    half = spanned[centre[..., 0].size :].reshape(facts, phrasings, -1)
    sides = np.tile([0.0, 1.0], len(names) * phrasings)
    rows, columns = np.triu_indices(len(sides), 1)
    model = model_rdm(sides)
    model = scipy.stats.rankdata(model) - (len(model) + 1) / 2
    signs = rng(seed, "swaps of sides").choice([-1.0, 1.0], size=(draws, facts))
    signs = np.vstack([np.ones(facts), signs])
    found = []
    for start in range(0, len(signs), _BATCH):
        some = signs[start : start + _BATCH]
        moved = np.stack([np.einsum("bf,fpk->bpk", some[:, of], half[of]) / len(of) for of in members], axis=1)
        means = np.stack([centre + moved, centre - moved], axis=3).reshape(len(some), len(sides), -1)
        grams = means @ means.transpose(0, 2, 1)
        sizes = np.diagonal(grams, axis1=1, axis2=2)
        distances = (sizes[:, rows] + sizes[:, columns] - 2 * grams[:, rows, columns]).clip(min=0)
        found.append(scipy.stats.rankdata(distances, axis=1) @ model * 12 / (len(model) ** 3 - len(model)))
    whole = np.concatenate(found)
    return float(whole[0]), whole[1:]


def _rdms(vectors: NDArray) -> Any:
    from rsatoolbox.rdm.rdms import RDMs

    return RDMs(vectors, rdm_descriptors={"index": list(range(len(vectors)))})
