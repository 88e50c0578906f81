"""Intervals for measures of gate seeds x facts x phrasings, where each of the three could have been another draw."""

import math
from collections.abc import Callable

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError, check_choice
from mechgate.seeding import rng
from mechgate.stats.estimates import FEWEST_DRAWS, LEVELS, Estimate
from mechgate.stats.grids import Grid
from mechgate.stats.samples import finite_vector, whole_number

METHODS = ("percentile", "BCa")

# What rounding alone can do to a mean, relative to the largest value that went in.
_ROUNDING = 1e-12
# Cells held in memory at once while resampling (32 MB).
_BATCH = 4_000_000


def hierarchical_bootstrap(
    values: ArrayLike | Grid | tuple[ArrayLike | Grid, ...],
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
    method: str = "percentile",
    statistic: Callable[..., ArrayLike] | None = None,
) -> Estimate:
    """A statistic of the grand means of one measure or several paired ones, with its interval.

    `values` is an array of shape [seeds, facts, phrasings] in any unit, or a `Grid`; or a tuple of them, measured on
    the same grid. `statistic` takes one grand mean a measure and works on numbers and, element by element, on
    vectors of them; without it, the one mean is the estimate. Selectivity is
    `hierarchical_bootstrap((unwanted, wanted), statistic=lambda a, e: 1 - a / e, ...)`; ask for such a ratio only
    where the denominator's own interval stays clear of 0.

    Each draw takes seeds with replacement, facts with replacement and, anew for each fact taken, phrasings of that
    fact with replacement. All seeds see the same facts and phrasings (they are crossed), and all measures the same
    draw (they are paired). A level with one member only is not resampled; `method` of the estimate says which were.
    `n` is the number of facts. "percentile", or "BCa" (Efron 1987) with the bias from the draws and the acceleration
    from leaving out each fact and, of several seeds, each seed.

    Over many seeds the interval is a little too wide, since it counts the noise of single cells more than once (Owen
    2007, Annals of Applied Statistics 1, 386-411). With five seeds or fewer that differ much it is too narrow, as
    every bootstrap of so few; print each seed and `permutation.sign_flip_p` over seeds beside it. From one seed the
    interval says nothing about other seeds.

    A statistic that does not vary between draws by more than rounding gives method "constant", an interval of no
    width. Raises `InputError` for fewer than two facts, values that are not finite numbers, measures of unequal
    shape or names, fewer than 100 draws, a level outside 0.5 to 0.999, an unknown method, a statistic that is not
    finite on the data or in any draw or that is not element by element, and where BCa is undefined.
    """
    check_choice("method", method, METHODS)
    draws = whole_number(draws, "draws", least=FEWEST_DRAWS)
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise InputError("level is not usable", got=level, allowed=f"{LEVELS[0]} to {LEVELS[1]}")
    measures = _measures(values)
    if statistic is None and len(measures) > 1:
        raise InputError(
            "several measures need a statistic of their means",
            got=f"{len(measures)} measures",
            do="pass statistic, for instance lambda first, second: first - second",
        )
    of_means: Callable[..., ArrayLike] = (lambda mean: mean) if statistic is None else statistic
    observed = [measure.mean() for measure in measures]
    value = float(_applied(of_means, [np.array([mean]) for mean in observed])[0])
    if not math.isfinite(value):
        raise InputError(
            "the statistic is not finite on the data", got=f"{value} of means {list(map(float, observed))}"
        )

    means = _resampled(measures, seed, draws)
    drawn = _applied(of_means, means)
    unusable = int(np.count_nonzero(~np.isfinite(drawn)))
    if unusable:
        raise InputError(
            "the statistic is not finite in some draws, so it has no interval",
            got=f"{unusable} of {draws} draws",
            do="report the means instead; a ratio needs a denominator that is clear of 0",
        )
    # A statistic that mixes the draws (by a mean over them, say) would give an interval of something else.
    alone = _applied(of_means, [mean[:1] for mean in means])
    rounding = _rounding(of_means, measures, observed, value)
    if not np.isclose(alone[0], drawn[0], rtol=1e-9, atol=rounding):
        raise InputError(
            "the statistic must work element by element",
            got=f"{alone[0]:.6g} for one draw alone and {drawn[0]:.6g} among {draws}",
        )
    n = measures[0].shape[1]
    if np.ptp(drawn) <= rounding:
        return Estimate(value=value, low=value, high=value, level=level, n=n, method="constant")

    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "BCa":
        shares = _bca_shares(shares, value, drawn, _left_out(of_means, measures))
    low, high = (float(end) for end in np.quantile(drawn, shares))
    seeds, _, phrasings = measures[0].shape
    levels = ["seeds"] * (seeds > 1) + ["facts"] + ["phrasings"] * (phrasings > 1)
    return Estimate(
        value=value, low=low, high=high, level=level, n=n, method=f"hierarchical {method} over {', '.join(levels)}"
    )


def _measures(values: ArrayLike | Grid | tuple[ArrayLike | Grid, ...]) -> list[NDArray[np.float64]]:
    """The measures as float arrays of one shape [seeds, facts, phrasings]."""
    given = list(values) if isinstance(values, tuple) else [values]
    if not given:
        raise InputError("there is no measure", do="pass an array, or a tuple of arrays")
    grids = [one for one in given if isinstance(one, Grid)]
    if any(one.names != grids[0].names for one in grids):
        raise InputError(
            "the measures are not paired: their seeds, facts or phrasings differ in name",
            do="keep the cells that all of them have",
        )
    arrays = []
    for i, one in enumerate(given):
        array = np.asarray(one.values if isinstance(one, Grid) else one)
        if array.ndim != 3:
            raise InputError(
                f"measure {i} must have three dimensions",
                got=f"shape {array.shape}",
                allowed="[seeds, facts, phrasings]",
                do="build it with grid_from_rows",
            )
        if array.size:
            finite_vector(array.ravel(), f"measure {i}")
        arrays.append(array.astype(np.float64))
    if len({array.shape for array in arrays}) > 1:
        raise InputError("the measures differ in shape", got=[array.shape for array in arrays])
    seeds, facts, phrasings = arrays[0].shape
    if not seeds or facts < 2 or not phrasings:
        raise InputError(
            "an interval needs a seed, a phrasing and at least two facts",
            got=f"{seeds} seeds, {facts} facts, {phrasings} phrasings",
            do="measure more facts; more phrasings of one fact do not help",
        )
    return arrays


def _applied(statistic: Callable[..., ArrayLike], means: list[NDArray]) -> NDArray[np.float64]:
    """The statistic of vectors of means, as a vector of the same length."""
    with np.errstate(all="ignore"):  # what is not finite is counted and refused by name
        found = np.asarray(statistic(*means))
    if found.shape != means[0].shape or found.dtype.kind not in "biuf":
        raise InputError(
            "the statistic must work element by element on vectors of means",
            got=f"shape {found.shape}, dtype {found.dtype} for vectors of shape {means[0].shape}",
            do="use numpy functions and operators, without branches on the values",
        )
    return found.astype(np.float64)


def _resampled(measures: list[NDArray], seed: int, draws: int) -> list[NDArray]:
    """The grand means of each measure in each draw: a list of vectors of shape [draws]."""
    seeds, facts, phrasings = measures[0].shape
    cells = facts * phrasings
    # One stream a level, so that neither the size of a batch nor a level that is not resampled moves the others.
    streams = [rng(seed, "hierarchical bootstrap", level) for level in ("seeds", "facts", "phrasings")]
    # Means of values near the largest allowed ones must not overflow in sums.
    scaled = [measure.reshape(seeds, cells).T / (seeds * cells) for measure in measures]
    parts: list[list[NDArray]] = [[] for _ in measures]
    rows = max(1, _BATCH // max(cells, seeds))
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        fact_at = streams[1].integers(0, facts, (size, facts))[:, :, None]
        phrasing_at = streams[2].integers(0, phrasings, (size, facts, phrasings)) if phrasings > 1 else 0
        taken = _counts((fact_at * phrasings + phrasing_at).reshape(size, -1), cells)
        weights = _counts(streams[0].integers(0, seeds, (size, seeds)), seeds)
        for part, measure in zip(parts, scaled, strict=True):
            part.append(((taken @ measure) * weights).sum(axis=1))
    return [np.concatenate(part) for part in parts]


def _counts(index: NDArray, size: int) -> NDArray[np.float64]:
    """How often each of `size` members occurs in each row of `index`."""
    rows = index.shape[0]
    flat = index + size * np.arange(rows)[:, None]
    return np.bincount(flat.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def _rounding(
    statistic: Callable[..., ArrayLike], measures: list[NDArray], observed: list[np.floating], value: float
) -> float:
    """How far the statistic can move by rounding in the means, whatever its unit."""
    moved = 0.0
    for i, measure in enumerate(measures):
        nearby = [np.array([mean]) for mean in observed]
        nearby[i] = nearby[i] + _ROUNDING * np.abs(measure).max()
        change = abs(float(_applied(statistic, nearby)[0]) - value)
        moved += change if math.isfinite(change) else 0.0
    return moved


def _left_out(statistic: Callable[..., ArrayLike], measures: list[NDArray]) -> list[NDArray]:
    """The statistic without each fact in turn and, of several seeds, without each seed."""
    found = []
    for axis in (1, 0):
        size = measures[0].shape[axis]
        if size > 1:
            others = tuple(a for a in range(3) if a != axis)
            by_member = [measure.mean(axis=others) for measure in measures]
            found.append(_applied(statistic, [(m.mean() * size - m) / (size - 1) for m in by_member]))
    return found


def _bca_shares(shares: NDArray, value: float, drawn: NDArray, left_out: list[NDArray]) -> NDArray:
    """The shares of the draws below the ends of the BCa interval."""
    below = (np.count_nonzero(drawn < value) + np.count_nonzero(drawn == value) / 2) / drawn.size
    bias = scipy.stats.norm.ppf(below)
    # Acceleration of several samples: Efron and Tibshirani 1993, eq. 14.15, as in scipy.stats.bootstrap.
    cubes = squares = 0.0
    scale = max((float(np.abs(sample - sample.mean()).max()) for sample in left_out), default=0.0)
    if math.isfinite(scale) and scale > 0:
        for sample in left_out:
            influence = (sample.size - 1) / sample.size * (sample.mean() - sample) / scale
            cubes, squares = cubes + (influence**3).sum(), squares + (influence**2).sum()
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else math.nan
    z = bias + scipy.stats.norm.ppf(shares)
    room = 1 - acceleration * z
    found = scipy.stats.norm.cdf(bias + z / room) if (room > 0).all() else np.array([math.nan])
    if not np.isfinite(found).all():
        raise InputError(
            "the BCa interval is undefined for these data",
            got=f"a share {below:.4g} of the draws below the estimate and acceleration {acceleration:.4g}",
            do="use more draws, or method='percentile'",
        )
    return found
