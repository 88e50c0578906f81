"""Do two sets of features overlap more than sets of features alike in how often they fire and how long they are?

A hypergeometric p is not valid here: features that fire often are moved by anything and separate anything. So features
are permuted within strata of firing rate and decoder norm, and near-duplicates are counted once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.permutation import p_from_null
from mechgate.stats.samples import finite_vector

Set = NDArray[np.bool_]
ALIKE = 0.7
"""Decoder cosine from which on two features are counted as one."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A statistic, its mean and upper 95% end under permutation within strata, and p (greater; (b + 1) / (draws + 1))."""

    value: float
    expected: float
    high: float
    p: float
    draws: int

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return dict(vars(self))


def jaccard(first: ArrayLike, second: ArrayLike) -> float:
    """Size of the intersection over that of the union of two boolean vectors; 0 where both are empty."""
    a, b = _sets(first, second)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def rank_biased_overlap(first: ArrayLike, second: ArrayLike, *, persistence: float = 0.98) -> float:
    """How alike two scores rank the same features, the top counting most (Webber et al. 2010, extrapolated form).

    At depth d the agreement A_d is the share of the first d that the two rankings have in common; the result is the
    mean of A_d, weighted by (1 - p) p^(d - 1), with the last agreement for all depths beyond. 1 is the same order.
    """
    if not 0 < persistence < 1:
        raise InputError("persistence is between 0 and 1", got=persistence)
    a, b = (finite_vector(scores, "scores") for scores in (first, second))
    if len(a) != len(b):
        raise InputError("rankings of different features", got=f"{len(a)} and {len(b)}")
    places = [np.empty(len(a), dtype=int) for _ in range(2)]
    for place, scores in zip(places, (a, b), strict=True):
        place[np.argsort(-scores, kind="stable")] = np.arange(len(a))
    # A feature is common to both tops from the deeper of its two places on.
    common = np.cumsum(np.bincount(np.maximum(*places), minlength=len(a)))
    agreement = common / np.arange(1, len(a) + 1)
    weights = (1 - persistence) * persistence ** np.arange(len(a))
    return float((weights * agreement).sum() + persistence ** len(a) * agreement[-1])


def span_overlap(first: ArrayLike, second: ArrayLike) -> float:
    """Mean squared cosine of the principal angles between the spans of two sets of directions [n, d]: 1 where the smaller
    lies within the larger, 0 where they are orthogonal. 0 for an empty set."""
    bases = []
    for directions in (first, second):
        matrix = np.asarray(directions, dtype=np.float64)
        if not matrix.size:
            return 0.0
        left, size, _ = np.linalg.svd(matrix.T, full_matrices=False)
        bases.append(left[:, size > 1e-8 * size[0]])
    return float(np.square(bases[0].T @ bases[1]).sum() / min(bases[0].shape[1], bases[1].shape[1]))


def strata(rate: ArrayLike, norm: ArrayLike, *, parts: int | None = None) -> NDArray[np.int64]:
    """The stratum of each feature: its decile of firing rate, and within that its decile of decoder norm.

    Fewer than 500 features are cut into fewer `parts` each way, so that a stratum has about five.
    """
    a, b = finite_vector(rate, "rates", least=2), finite_vector(norm, "norms", least=2)
    if len(a) != len(b):
        raise InputError("rates and norms of different features", got=f"{len(a)} and {len(b)}")
    parts = parts or max(1, min(10, int((len(a) / 5) ** 0.5)))
    outer = _parts(a, parts)
    found = np.zeros(len(a), dtype=np.int64)
    for k in range(parts):
        inside = np.flatnonzero(outer == k)
        found[inside] = k * parts + _parts(b[inside], parts)
    return found


def alike(decoder: ArrayLike, *, cosine: float = ALIKE) -> NDArray[np.int64]:
    """The cluster of each feature: features whose directions [n, d] have a cosine above `cosine`, and what they are
    joined to by others. Raises `InputError` for a direction of length 0."""
    matrix = np.asarray(decoder, dtype=np.float32)
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not matrix.size or (length == 0).any():
        raise InputError("every feature needs a direction", got=f"{int((length == 0).sum())} of length 0")
    unit = matrix / length
    rows, columns = [], []
    for start in range(0, len(unit), 1024):
        near = np.argwhere(unit[start : start + 1024] @ unit.T > cosine)
        rows.append(near[:, 0] + start)
        columns.append(near[:, 1])
    pairs = (np.ones(sum(map(len, rows)), dtype=bool), (np.concatenate(rows), np.concatenate(columns)))
    return connected_components(csr_array(pairs, shape=(len(unit), len(unit))), directed=False)[1].astype(np.int64)


def overlap_test(
    statistic: Callable[[NDArray[Any], NDArray[Any]], float],
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike,
    *,
    seed: int,
    draws: int = 10_000,
) -> Overlap:
    """`statistic` of two vectors over the same features, against the second one permuted within `groups` (strata).

    Raises `InputError` for vectors of different features, and where no group has two features that differ.
    """
    a, b, strata_ = np.asarray(first), np.asarray(second), np.asarray(groups)
    if not len(a) == len(b) == len(strata_) or draws < 19:
        raise InputError("overlap is of the same features", got=f"{len(a)}, {len(b)} and {len(strata_)}, {draws} draws")
    names, codes = np.unique(strata_, return_inverse=True)
    if not any(len(np.unique(b[codes == k])) > 1 for k in range(len(names))):
        raise InputError("nothing can be permuted: no stratum has features that differ", got=f"{len(a)} features")
    stream = rng(seed, "overlap")
    null = np.empty(draws)
    shuffled, places = np.empty_like(b), np.argsort(codes, kind="stable")
    for k in range(draws):
        # Sorted by stratum and a random number within it: every stratum's own values in a random order.
        shuffled[places] = b[np.argsort(codes + stream.random(len(codes)))]
        null[k] = statistic(a, shuffled)
    value = statistic(a, b)
    p = p_from_null(value, null, alternative="greater")
    return Overlap(value=value, expected=float(null.mean()), high=float(np.quantile(null, 0.95)), p=p, draws=draws)


def by_cluster(values: ArrayLike, clusters: ArrayLike, *, how: str = "any") -> NDArray[Any]:
    """A value a cluster from a value a feature: "any" of booleans, the "largest" in size, or the "mean"."""
    vector, names = np.asarray(values), np.asarray(clusters)
    order = np.unique(names)
    pick: dict[str, Callable[[NDArray[Any]], Any]] = {
        "any": lambda part: bool(part.any()),
        "largest": lambda part: part[np.abs(part).argmax()],
        "mean": lambda part: part.mean(),
    }
    if how not in pick or len(vector) != len(names):
        raise InputError(
            "values by cluster", got=f"{how}, {len(vector)} values, {len(names)} features", allowed=list(pick)
        )
    return np.array([pick[how](vector[names == k]) for k in order])


def _parts(values: NDArray, parts: int) -> NDArray[np.int64]:
    """Equally many features a part, in the order of their values."""
    found = np.empty(len(values), dtype=np.int64)
    found[np.argsort(values, kind="stable")] = np.arange(len(values)) * parts // max(len(values), 1)
    return found


def _sets(first: ArrayLike, second: ArrayLike) -> tuple[Set, Set]:
    a, b = np.asarray(first), np.asarray(second)
    if a.dtype != bool or b.dtype != bool or a.shape != b.shape or a.ndim != 1:
        raise InputError(
            "sets are boolean vectors over the same features", got=f"{a.dtype} {a.shape}, {b.dtype} {b.shape}"
        )
    return a, b
