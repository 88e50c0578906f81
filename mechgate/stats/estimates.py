"""Estimates with intervals: bootstraps that resample clusters (facts), never single rows (phrasings)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError, check_choice
from mechgate.seeding import rng
from mechgate.stats.samples import Clusters, cluster_means, finite_vector, whole_number

METHODS = ("BCa", "percentile", "basic")
LEVELS = (0.5, 0.999)
FEWEST_DRAWS = 100

# Equal numbers averaged over clusters of unequal size differ in their last digits. Relative to the largest value
# that went in, a spread of this size is no variation, and an interval from it could exclude 0 for no reason.
_ROUNDING = 1e-12
# Indices held in memory at once while resampling (32 MB).
_BATCH = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval.

    `value` is the estimate and `low`, `high` the ends of its interval at `level`, all in the unit of the data;
    `n` is the number of clusters behind it (not of rows); `method` says how the interval was made
    ("constant": the data hold no variation, the interval has no width and is no statement of certainty);
    `p` is a p-value, where a test went with it. The interval of a skewed sample need not be symmetric.

    Raises `InputError` for anything that is not finite, an interval that ends before it begins, a level
    outside (0, 1), n below 1 or p outside (0, 1].
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    n: int
    method: str
    p: float | None = None

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.value, self.low, self.high))):
            raise InputError("an estimate must be finite", got=f"{self.value} [{self.low}, {self.high}]")
        if self.low > self.high:
            raise InputError("an interval ends before it begins", got=f"[{self.low}, {self.high}]")
        if not 0 < self.level < 1:
            raise InputError("level is not a coverage", got=self.level, allowed="above 0, below 1")
        whole_number(self.n, "n", least=1)
        if self.p is not None and not 0 < self.p <= 1:
            raise InputError("p is not a p-value", got=self.p, allowed="above 0, at most 1")

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, in the order of the class."""
        return {
            "value": float(self.value),
            "low": float(self.low),
            "high": float(self.high),
            "level": float(self.level),
            "n": int(self.n),
            "method": self.method,
            "p": None if self.p is None else float(self.p),
        }

    def __str__(self) -> str:
        """Like "+1.52 [+1.31, +1.74]": at least two decimals, and two digits of the interval's half-width."""
        size = (self.high - self.low) / 2 or abs(self.value)
        decimals = max(2, 1 - math.floor(math.log10(size))) if size else 2
        value, low, high = (f"{number:+z.{decimals}f}" for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def _mean(sample: NDArray, axis: int = -1) -> NDArray:
    return np.mean(sample, axis=axis)


def _ratio_of_means(first: NDArray, second: NDArray, axis: int = -1) -> NDArray:
    return np.mean(first, axis=axis) / np.mean(second, axis=axis)


def _difference_of_means(first: NDArray, second: NDArray, axis: int = -1) -> NDArray:
    return np.mean(first, axis=axis) - np.mean(second, axis=axis)


def _bootstrap(
    samples: Sequence[NDArray], inputs: Sequence[ArrayLike], *, seed: int, draws: int, level: float, method: str
) -> Estimate:
    """The mean of one sample of cluster means, or the difference of the means of two, with its interval.

    `inputs` are the values the samples were computed from; their size tells variation from rounding.
    """
    check_choice("method", method, METHODS)
    draws = whole_number(draws, "draws", least=FEWEST_DRAWS)
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise InputError("level is not usable", got=level, allowed=f"{LEVELS[0]} to {LEVELS[1]}")
    smallest = min(sample.size for sample in samples)
    if smallest < 2:
        raise InputError(
            "an interval needs at least two clusters",
            got=f"{smallest} cluster",
            do="measure more facts; more phrasings of one fact do not help",
        )
    n = sum(sample.size for sample in samples)
    statistic: Callable[..., NDArray] = _mean if len(samples) == 1 else _difference_of_means
    value = float(statistic(*samples))
    largest = max(float(np.abs(np.asarray(values, dtype=np.float64)).max()) for values in inputs)
    if all(np.ptp(sample) <= _ROUNDING * largest for sample in samples):
        return Estimate(value=value, low=value, high=value, level=level, n=n, method="constant")

    # At unit scale no power of a tiny spread underflows; scaling by a power of two rounds nothing.
    scale = float(np.ldexp(1.0, np.frexp(max(float(np.abs(sample).max()) for sample in samples))[1]))
    interval = scipy.stats.bootstrap(
        [sample / scale for sample in samples],
        statistic,
        n_resamples=draws,
        batch=max(1, _BATCH // n),
        vectorized=True,
        confidence_level=level,
        method=method,
        rng=rng(seed, "bootstrap"),
    ).confidence_interval
    # Ends that interpolate between equal resamples can come out in the wrong order by one last digit.
    low, high = sorted((scale * float(interval.low), scale * float(interval.high)))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            f"the {method} interval is undefined for these data",
            got=f"[{low}, {high}] from {n} clusters and {draws} draws",
            do="use more draws, or method='percentile'",
        )
    return Estimate(value=value, low=low, high=high, level=level, n=n, method=method)


def bootstrap_mean(
    values: ArrayLike, clusters: Clusters, *, seed: int, draws: int = 10_000, level: float = 0.95, method: str = "BCa"
) -> Estimate:
    """Mean over clusters of the clusters' means, with a cluster-bootstrap interval.

    `values` and `clusters` have one entry a row; rows of one cluster (phrasings of one fact) stay together, and a
    cluster counts once however many rows it has. Method "BCa" (Efron 1987), "percentile" or "basic", through
    `scipy.stats.bootstrap`. Equal seeds give equal resamples.

    Clusters with equal means (to 1e-12 of the largest value) give an interval of no width with method "constant":
    BCa is undefined there, and every resample has the same mean. Below about 20 clusters every bootstrap interval
    is too narrow; below 10, print the clusters and `permutation.sign_flip_p` beside it.

    Raises `InputError` for fewer than two clusters, values that are not finite numbers, lengths that differ,
    fewer than 100 draws, a level outside 0.5 to 0.999 or an unknown method.
    """
    _, means = cluster_means(values, clusters)
    return _bootstrap([means], [values], seed=seed, draws=draws, level=level, method=method)


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Clusters,
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
    method: str = "BCa",
) -> Estimate:
    """Mean of `a` minus mean of `b`, measured on the same rows (gated and base, say), paired row by row.

    The same as `bootstrap_mean` of `a - b`, with its options and errors; also raises `InputError` when `a` and `b`
    differ in length.
    """
    first, second = finite_vector(a, "a"), finite_vector(b, "b")
    if first.size != second.size:
        raise InputError(
            "a and b must be measured on the same rows",
            got=f"{first.size} and {second.size} values",
            do="use bootstrap_interaction for measures of different rows",
        )
    _, means = cluster_means(first - second, clusters)
    return _bootstrap([means], [first, second], seed=seed, draws=draws, level=level, method=method)


def bootstrap_interaction(
    first_values: ArrayLike,
    first_clusters: Clusters,
    second_values: ArrayLike,
    second_clusters: Clusters,
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
    method: str = "BCa",
) -> Estimate:
    """Mean of the first minus mean of the second, each a mean over clusters, measured on different rows.

    For instance (change on false claims) - (change on true claims). Where both have the same clusters (each fact
    has false and true claims) they are paired by cluster, and `n` counts each cluster once. Where they share none,
    the two are resampled independently and `n` is the sum. Options and errors are those of `bootstrap_mean`; also
    raises `InputError` when only some of the clusters are shared, since neither resampling is right then.
    """
    first_names, first = cluster_means(first_values, first_clusters, "first_values")
    second_names, second = cluster_means(second_values, second_clusters, "second_values")
    if first_names == second_names:
        samples = [first - second]
    elif set(first_names).isdisjoint(second_names):
        samples = [first, second]
    else:
        alone = sorted(set(map(str, first_names)) ^ set(map(str, second_names)))
        raise InputError(
            "the two measures share some clusters, but not all",
            got=f"{len(alone)} clusters in one only, among them {', '.join(alone[:3])}",
            allowed="the same clusters, or none in common",
            do="keep the shared clusters only",
        )
    inputs = [first_values, second_values]
    return _bootstrap(samples, inputs, seed=seed, draws=draws, level=level, method=method)


def bootstrap_ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    clusters: Clusters,
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
    method: str = "BCa",
) -> Estimate:
    """Mean of `numerator` over mean of `denominator`, measured on the same rows, clusters resampled with both.

    A ratio of means, not a mean of ratios: single rows may have a denominator of 0. Ask for it only where the
    denominator's own interval stays clear of 0. Options and errors are those of `bootstrap_mean`; also raises
    `InputError` when the lengths differ, or when the denominators are of both signs (or 0) and the 99.99% normal interval
    of their mean reaches 0, where a ratio's interval means nothing.
    """
    top, bottom = finite_vector(numerator, "numerator"), finite_vector(denominator, "denominator")
    if top.size != bottom.size:
        raise InputError(
            "numerator and denominator must be measured on the same rows", got=f"{top.size} and {bottom.size} values"
        )
    _, tops = cluster_means(top, clusters)
    _, bottoms = cluster_means(bottom, clusters)
    clear = (bottoms > 0).all() or (bottoms < 0).all()  # as token counts are, however unequal
    if not clear and abs(bottoms.mean()) <= 3.9 * bottoms.std(ddof=1 if bottoms.size > 1 else 0) / math.sqrt(
        bottoms.size
    ):
        raise InputError(
            "the denominator's mean is not clear of 0, so the ratio has no usable interval",
            got=f"{bottoms.mean():.4g} from {bottoms.size} clusters",
            do="report the two means instead",
        )
    check_choice("method", method, METHODS)
    if bottoms.size < 2:
        raise InputError("an interval needs at least two clusters", got=f"{bottoms.size} cluster")
    value = float(_ratio_of_means(tops, bottoms))
    if np.abs(tops - value * bottoms).max() <= _ROUNDING * max(np.abs(tops).max(), np.abs(bottoms).max()):
        return Estimate(value=value, low=value, high=value, level=level, n=bottoms.size, method="constant")
    interval = scipy.stats.bootstrap(
        (tops, bottoms),
        _ratio_of_means,
        paired=True,
        vectorized=True,
        n_resamples=whole_number(draws, "draws", least=FEWEST_DRAWS),
        confidence_level=level,
        method=method,
        rng=rng(seed, "bootstrap"),
    ).confidence_interval
    return Estimate(
        value=value, low=float(interval.low), high=float(interval.high), level=level, n=bottoms.size, method=method
    )


def exact_share(hits: int, n: int, *, level: float = 0.95) -> Estimate:
    """A share of `n` independent units (one reply a fact), with its Clopper-Pearson interval.

    Exact also at 0 and at n, where a bootstrap knows no variation. Raises `InputError` unless 0 <= hits <= n, n >= 1.
    """
    if n < 1 or not 0 <= hits <= n:
        raise InputError("hits are not a part of n", got=f"{hits} of {n}", allowed="0 <= hits <= n, n >= 1")
    found = scipy.stats.binomtest(int(hits), int(n)).proportion_ci(level, method="exact")
    return Estimate(
        value=hits / n, low=float(found.low), high=float(found.high), level=level, n=int(n), method="Clopper-Pearson"
    )
