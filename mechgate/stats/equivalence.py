"""Claims that something was preserved: two one-sided tests against a margin that was stated beforehand."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike

from mechgate.errors import InputError
from mechgate.stats.estimates import LEVELS, Estimate
from mechgate.stats.samples import Clusters, cluster_means, finite_vector, whole_number

ITEM_MARGIN = 0.2
"""The margin of items, in standard deviations of the paired differences."""
WANTED_POWER = 0.8

# Equal numbers averaged over clusters of unequal size differ in their last digits; that is no variation.
_ROUNDING = 1e-12
# No sample can be larger than this many clusters; a margin that needs more cannot be tested.
_MOST = 10**9
# From here on the t distribution is the normal one to five digits.
_NORMAL_FROM = 100_000
_NODES, _WEIGHTS = scipy.special.roots_legendre(120)


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Whether a mean paired difference lies inside a margin.

    `estimate` is the mean with its t interval (90% unless told), and `passed` says that the interval lies strictly
    inside `margin` = (low, high), in the unit of the differences; None is a side without a margin. `p` is the larger
    of the two one-sided p-values. `power` is the chance of passing with `n` clusters, and `n_for_80_power` the
    clusters needed for 80%, if there is no difference at all and the spread is the one seen here.

    Differences without variation (`estimate.method` "constant") test nothing: `passed` is False, p 1 and both powers
    None. Say then that the measure was uninformative, not that anything was or was not preserved.
    """

    estimate: Estimate
    p: float
    margin: tuple[float | None, float | None]
    passed: bool
    n: int
    n_for_80_power: int | None
    power: float | None

    @property
    def informative(self) -> bool:
        return self.estimate.method != "constant"

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, in the order of the class."""
        return {
            "estimate": self.estimate.to_json(),
            "p": self.p,
            "margin": list(self.margin),
            "passed": self.passed,
            "n": self.n,
            "n_for_80_power": self.n_for_80_power,
            "power": self.power,
        }


def tost(
    differences: ArrayLike,
    clusters: Clusters,
    *,
    margin: float | tuple[float | None, float | None],
    level: float = 0.90,
) -> Equivalence:
    """The paired equivalence test of a mean difference (gated - base): Schuirmann's two one-sided t tests.

    `differences` and `clusters` have one entry a row; rows of one cluster (phrasings of one fact) are averaged
    first, and the test is on the clusters' means. `margin` is a number m for (-m, m), or a pair (low, high) around
    0 that need not be symmetric, in the unit of the differences. A side that is None is not tested: perplexity may
    rise by 5% at most with margin (None, log 1.05) on log ratios. Each side is tested at (1 - level) / 2, so that
    `passed` is the same as the interval lying inside the margin, and as p < (1 - level) / 2.

    Raises `InputError` for fewer than two clusters, values that are not finite numbers, lengths that differ, a
    margin that does not hold 0 inside or has no side, a level outside 0.5 to 0.999, and a margin so narrow that
    80% power would take more than 1e9 clusters.
    """
    low, high = _margin(margin)
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise InputError("level is not usable", got=level, allowed=f"{LEVELS[0]} to {LEVELS[1]}")
    _, means = cluster_means(differences, clusters, "differences")
    n = means.size
    if n < 2:
        raise InputError("an equivalence test needs at least two clusters", got=f"{n} cluster")
    value = float(means.mean())
    largest = float(np.abs(np.asarray(differences, dtype=np.float64)).max())
    if np.ptp(means) <= _ROUNDING * largest:
        constant = Estimate(value=value, low=value, high=value, level=level, n=n, method="constant")
        return Equivalence(
            estimate=constant, p=1.0, margin=(low, high), passed=False, n=n, n_for_80_power=None, power=None
        )
    scale = float(np.abs(means).max())  # a small spread squared could vanish
    deviation = float((means / scale).std(ddof=1)) * scale
    error, t = deviation / math.sqrt(n), scipy.stats.t(n - 1)
    half = error * float(t.ppf((1 + level) / 2))
    estimate = Estimate(value=value, low=value - half, high=value + half, level=level, n=n, method="t")
    sides = [0.0 if low is None else float(t.sf((value - low) / error))]
    sides += [0.0 if high is None else float(t.cdf((value - high) / error))]
    return Equivalence(
        estimate=estimate,
        p=max(*sides, float(np.finfo(float).tiny)),
        margin=(low, high),
        passed=(low is None or estimate.low > low) and (high is None or estimate.high < high),
        n=n,
        n_for_80_power=n_for_power(deviation, margin=(low, high), level=level),
        power=tost_power(n, deviation, margin=(low, high), level=level),
    )


def item_margin(differences: ArrayLike, clusters: Clusters | None = None) -> float:
    """0.2 standard deviations of the paired differences, in their unit: the margin of items.

    `differences` has one entry an item; with `clusters`, rows of one cluster are averaged first, as `tost` does, and
    the deviation is that of the clusters' means. A margin from the spread of the very data is what the amended
    standard of evidence asks for (amendment 10): it is stated beforehand as a multiple, not as a number, and makes
    the power depend on n alone (80% from about 214 items by the normal formula, 216 by `tost_power`). It does mean that
    noisier items get a wider margin, so print it with the result.

    Raises `InputError` for fewer than two items, values that are not finite numbers, and no variation.
    """
    means = finite_vector(differences, "differences")
    if clusters is not None:
        means = cluster_means(means, clusters, "differences")[1]
    if means.size < 2:
        raise InputError("a standard deviation needs at least two items", got=f"{means.size} item")
    scale = float(np.abs(means).max())
    if np.ptp(means) <= _ROUNDING * scale:
        raise InputError(
            "the differences do not vary, so a margin cannot be taken from their spread",
            got=f"{means.size} times {means[0]:.6g}",
            do="state the margin as a number, and call a measure that never moves uninformative",
        )
    return ITEM_MARGIN * float((means / scale).std(ddof=1)) * scale


def tost_power(
    n: int,
    deviation: float,
    *,
    margin: float | tuple[float | None, float | None],
    level: float = 0.90,
    true: float = 0.0,
) -> float:
    """The chance that `tost` passes with `n` clusters whose means have standard deviation `deviation`.

    `true` is the true mean difference, in the unit of `deviation` and `margin`. Exact for normal means: the chance
    that the mean lies inside the margin by t standard errors, averaged over the chi distribution of the spread.
    With one side only this is the noncentral t. Raises `InputError` for n below 2, a deviation that is not above 0
    and margins and levels that `tost` refuses.
    """
    low, high = _margin(margin)
    n = whole_number(n, "n", least=2)
    if not (math.isfinite(deviation) and deviation > 0):
        raise InputError("deviation is not usable", got=deviation, allowed="a finite number above 0")
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise InputError("level is not usable", got=level, allowed=f"{LEVELS[0]} to {LEVELS[1]}")
    df, error = n - 1, deviation / math.sqrt(n)
    upper = math.inf if high is None else (high - true) / error
    lower = -math.inf if low is None else (low - true) / error
    t = float(scipy.special.stdtrit(df, (1 + level) / 2))
    # Spread (as a multiple of the true one) beyond which the interval is wider than the margin.
    widest = (upper - lower) / (2 * t)
    if df > _NORMAL_FROM:
        inside = scipy.special.ndtr(upper - t) - scipy.special.ndtr(lower + t)
        return float(max(inside, 0.0))
    # The spread seen, as a multiple of the true one, has a chi distribution over sqrt(df). The functions of
    # scipy.special are used because the search for n calls this often, and scipy.stats is slow on single numbers.
    start = math.sqrt(2 * float(scipy.special.gammaincinv(df / 2, 1e-13)) / df)
    stop = min(math.sqrt(2 * float(scipy.special.gammainccinv(df / 2, 1e-13)) / df), widest)
    if stop <= start:
        return 0.0
    spread = start + (stop - start) * (_NODES + 1) / 2
    inside = scipy.special.ndtr(upper - t * spread) - scipy.special.ndtr(lower + t * spread)
    constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    density = np.exp(constant + (df - 1) * np.log(spread) - df * spread**2 / 2)
    return float(np.clip((stop - start) / 2 * (_WEIGHTS * inside * density).sum(), 0.0, 1.0))


def n_for_power(
    deviation: float,
    *,
    margin: float | tuple[float | None, float | None],
    level: float = 0.90,
    power: float = WANTED_POWER,
    true: float = 0.0,
) -> int:
    """The fewest clusters with which `tost` passes with a chance of at least `power`; arguments as in `tost_power`.

    Raises `InputError` for what `tost_power` refuses, a power outside (0, 1), a true difference that is not inside
    the margin, and a margin so narrow that more than 1e9 clusters would be needed.
    """
    low, high = _margin(margin)
    if not 0 < power < 1:
        raise InputError("power is not usable", got=power, allowed="above 0, below 1")
    if (low is not None and true <= low) or (high is not None and true >= high):
        raise InputError("no sample shows equivalence of a true difference outside the margin", got=true)

    def enough(n: int) -> bool:
        return tost_power(n, deviation, margin=(low, high), level=level, true=true) >= power

    most = 2
    while not enough(most):
        most *= 2
        if most > _MOST:
            raise InputError(
                "the margin is too narrow to be tested",
                got=f"margin {(low, high)} for a standard deviation of {deviation:.4g}",
                do="declare a wider margin, or report the interval alone",
            )
    least = most // 2  # not enough, or 1
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most


def _margin(margin: float | tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    """The margin as a pair; a side that is None stays so."""
    sides = margin if isinstance(margin, tuple) else (-margin, margin)
    usable = len(sides) == 2 and any(side is not None for side in sides)
    usable = usable and all(side is None or math.isfinite(side) for side in sides)
    if usable:
        low, high = sides
        if (low is None or low < 0) and (high is None or high > 0):
            return None if low is None else float(low), None if high is None else float(high)
    raise InputError(
        "margin is not usable",
        got=margin,
        allowed="a number above 0, or (low, high) with low < 0 < high and None for a side that is not tested",
    )
