"""p-values from null values and from sign flips. No p-value is ever 0 (Phipson and Smyth 2010)."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError, check_choice
from mechgate.seeding import rng
from mechgate.stats.samples import Clusters, cluster_means, finite_vector, whole_number

Alternative = Literal["two-sided", "greater", "less"]

FEWEST_NULLS = 19
"""The fewest null values that can reach p = .05."""

# Sums of the same numbers in another order differ in their last digits; such a difference is a tie.
_ROUNDING = 1e-12
_BATCH = 4_000_000


def _as_extreme(observed: float, null: NDArray, alternative: str, tolerance: float) -> int:
    """How many of `null` are at least as extreme as `observed`; ties count."""
    if alternative == "two-sided":
        return int(np.count_nonzero(np.abs(null) >= abs(observed) - tolerance))
    if alternative == "greater":
        return int(np.count_nonzero(null >= observed - tolerance))
    return int(np.count_nonzero(null <= observed + tolerance))


def p_from_null(
    observed: float, null_values: ArrayLike, *, alternative: Alternative = "two-sided", centre: float = 0.0
) -> float:
    """The share of null values at least as extreme as the observed one: p = (b + 1) / (K + 1).

    `null_values` are K draws of the same measure, shape (K,), in the unit of `observed`. "two-sided" compares
    |x - centre|; `centre` must be known beforehand (0 for a change) and matters to "two-sided" only. "greater" and
    "less" ask whether the observed value is unusually large or small. Ties (to a relative 1e-12) count against the
    observed value, so null values that are all equal still give a valid p.

    Raises `InputError` for fewer than 19 null values, anything that is not finite or an unknown alternative.
    """
    check_choice("alternative", alternative, get_args(Alternative))
    seen, middle = finite_vector([observed, centre], "observed and centre")
    null = finite_vector(null_values, "null_values")
    if null.size < FEWEST_NULLS:
        raise InputError(
            "there are too few null values for a p-value",
            got=f"{null.size}, so that p could not fall below {1 / (null.size + 1):.2g}",
            allowed=f"at least {FEWEST_NULLS}",
            do="draw more null gates",
        )
    tolerance = _ROUNDING * max(abs(seen), abs(middle))
    if alternative == "two-sided":
        seen, null = seen - middle, null - middle
    return (_as_extreme(seen, null, alternative, tolerance) + 1) / (null.size + 1)


def sign_flip_p(
    values: ArrayLike,
    clusters: Clusters | None = None,
    *,
    seed: int,
    draws: int = 10_000,
    alternative: Alternative = "two-sided",
) -> float:
    """The p-value of the mean of paired differences, when each could as well have had the other sign.

    `values` holds one difference a cluster, or, with `clusters`, one a row: rows of one cluster are averaged first
    and flip together. All 2**n sign patterns are gone through when there are at most `draws` of them, and p is
    exact (no less than 2**-n one-sided, 2**(1-n) two-sided); otherwise `draws` random patterns give
    p = (b + 1) / (draws + 1). Tests symmetry about 0. Differences that are all 0 give p = 1.

    Raises `InputError` for fewer than two clusters, values that are not finite numbers, fewer than 19 draws or an
    unknown alternative.
    """
    check_choice("alternative", alternative, get_args(Alternative))
    draws = whole_number(draws, "draws", least=FEWEST_NULLS)
    means = finite_vector(values, "values") if clusters is None else cluster_means(values, clusters)[1]
    if means.size < 2:
        raise InputError("a sign-flip test needs at least two clusters", got=f"{means.size} cluster")
    # Sums order the patterns just as means do.
    tolerance = _ROUNDING * means.size * float(np.abs(np.asarray(values, dtype=np.float64)).max())
    if 2**means.size <= draws:
        sums = np.zeros(1)
        for mean in means:
            sums = np.concatenate([sums + mean, sums - mean])
        return _as_extreme(float(sums[0]), sums, alternative, tolerance) / sums.size

    observed, generator, extreme = float(means.sum()), rng(seed, "sign flips"), 0
    rows = max(1, _BATCH // means.size)
    for start in range(0, draws, rows):
        signs = generator.choice([-1.0, 1.0], size=(min(rows, draws - start), means.size))
        extreme += _as_extreme(observed, signs @ means, alternative, tolerance)
    return (extreme + 1) / (draws + 1)
