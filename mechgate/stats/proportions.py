"""Shares of rows that come in clusters: how many independent rows they are worth, and an interval on that many."""

import math

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from mechgate.errors import InputError
from mechgate.stats.estimates import LEVELS, Estimate
from mechgate.stats.samples import Clusters, checked_names, cluster_means, finite_vector

# Equal numbers averaged over clusters of unequal size differ in their last digits; that is no variation.
_ROUNDING = 1e-12


def icc(values: ArrayLike, clusters: Clusters) -> float:
    """The intraclass correlation of rows of one cluster: ICC(1) of the one-way analysis of variance.

    `values` and `clusters` have one entry a row; clusters may differ in size (n0 of Snedecor and Cochran takes the
    place of the size). 1 where rows of a cluster are equal, near 0 where they are as unlike as any others, and
    below 0 (no less than -1 / (n0 - 1)) where they are more unlike.

    Raises `InputError` for values that are not finite numbers, lengths that differ, fewer than two clusters, no
    cluster of two rows, and values that are all equal, for which it is not defined.
    """
    vector = finite_vector(values, "values")
    index, sizes = _layout(vector, clusters)
    k, n = sizes.size, vector.size
    if k < 2 or n == k:
        raise InputError(
            "an intraclass correlation needs two clusters, and one of two rows",
            got=f"{n} rows in {k} clusters",
            do="without repeated rows there is nothing to correct: n_eff is n",
        )
    largest = float(np.abs(vector).max())
    if np.ptp(vector) <= _ROUNDING * largest:
        raise InputError("the intraclass correlation of equal values is not defined", got=f"{n} times {vector[0]:.6g}")
    scaled = vector / largest  # small values squared could vanish
    means = np.bincount(index, weights=scaled) / sizes
    between = float((sizes * (means - scaled.mean()) ** 2).sum()) / (k - 1)
    within = float(((scaled - means[index]) ** 2).sum()) / (n - k)
    size = (n - float((sizes**2).sum()) / n) / (k - 1)
    return (between - within) / (between + (size - 1) * within)


def n_effective(n: float, icc: float, cluster_size: float) -> float:
    """How many independent rows `n` rows in clusters of `cluster_size` are worth: n / (1 + (m - 1) ICC).

    For clusters of unequal size the m that keeps the variance of the mean right is sum(m_i^2) / sum(m_i). A negative
    `icc` counts as 0: an estimate below 0 is mostly noise, and must not make a sample worth more than its rows.

    Raises `InputError` for n below 1, an icc outside -1 to 1 and a cluster size below 1 or above n.
    """
    for what, number, least, most in (
        ("n", n, 1, math.inf),
        ("icc", icc, -1, 1),
        ("cluster_size", cluster_size, 1, n),
    ):
        if not (math.isfinite(number) and least <= number <= most):
            raise InputError(f"{what} is not usable", got=number, allowed=f"a finite number, {least} to {most}")
    return n / (1 + (cluster_size - 1) * max(icc, 0.0))


def clustered_share(
    hits: ArrayLike, clusters: Clusters, *, level: float = 0.95, correlation: float | None = None
) -> Estimate:
    """The share of rows that are hits, with a Clopper-Pearson interval on the effective number of rows.

    `hits` holds True or False (1 or 0) and `clusters` a name for each row (the fact whose replies they are). Every
    row counts once in the share; `n` is the number of clusters, and `method` gives n_eff. The interval has the beta
    quantiles of Clopper and Pearson at n_eff rows, of which the same share are hits, whole numbers or not (Korn and
    Graubard 1998, Survey Methodology 24, 193-201, without their correction for few clusters). It is of use near 0
    and 1, where a bootstrap knows no variation.

    `correlation` is the intraclass correlation, where it is known from other data; else it is estimated here. Where
    all rows are hits, or none, they say nothing about it, and it is taken as 1: clusters count instead of rows.

    Raises `InputError` for hits that are not 0 or 1, lengths that differ, a level outside 0.5 to 0.999 and a
    correlation outside -1 to 1.
    """
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise InputError("level is not usable", got=level, allowed=f"{LEVELS[0]} to {LEVELS[1]}")
    vector = finite_vector(hits, "hits")
    if not np.isin(vector, (0, 1)).all():
        wrong = vector[~np.isin(vector, (0, 1))][0]
        raise InputError("hits must be True or False for each row", got=float(wrong))
    _, sizes = _layout(vector, clusters)
    n, k, share = vector.size, sizes.size, float(vector.mean())
    if correlation is None:
        # One cluster, or rows that are all alike: the cautious end, at which a cluster is worth one row.
        correlation = 1.0 if k < 2 or share in (0, 1) else 0.0 if k == n else icc(vector, clusters)
    worth = n_effective(n, correlation, float((sizes**2).sum()) / n)
    found, missed = share * worth, (1 - share) * worth
    low = float(scipy.stats.beta.ppf((1 - level) / 2, found, missed + 1)) if share > 0 else 0.0
    high = float(scipy.stats.beta.ppf((1 + level) / 2, found + 1, missed)) if share < 1 else 1.0
    method = f"Clopper-Pearson on n_eff {worth:.1f}"
    return Estimate(value=share, low=low, high=high, level=level, n=k, method=method)


def _layout(vector: np.ndarray, clusters: Clusters) -> tuple[np.ndarray, np.ndarray]:
    """For each row the number of its cluster, and the clusters' sizes."""
    cluster_means(vector, clusters)  # for its checks
    _, index, sizes = np.unique(checked_names(clusters, "cluster names"), return_inverse=True, return_counts=True)
    return index, sizes
