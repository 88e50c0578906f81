"""How well a score of units (heads, say) finds those that are known to matter: AUROC, precision, ROC curves, and a null.

AUROC is linear in ranks: the mean over maps of one plant is the AUROC of the mean ranks, which the null uses.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.permutation import p_from_null
from mechgate.stats.samples import finite_vector

GRID = np.linspace(0, 1, 51)


def auroc(scores: ArrayLike, truth: ArrayLike) -> float:
    """The chance that a true unit's score is above another's, ties counting half (Mann-Whitney): 0.5 is chance.

    `scores` and `truth` (bool) have one entry a unit, in any shape. Raises `InputError` for scores that are not finite, other
    lengths, and where all units or none are true.
    """
    values, which = _checked(scores, truth)
    return _of_ranks(rankdata(values), which)


def precision_at(scores: ArrayLike, truth: ArrayLike) -> float:
    """The share of true units among the k with the highest scores, k being how many are true. Ties are broken at random, in
    the mean. Chance is k / n. Raises as `auroc`."""
    values, which = _checked(scores, truth)
    k = int(which.sum())
    edge = np.sort(values)[-k]
    above, at = values > edge, values == edge
    return float((which[above].sum() + (k - above.sum()) * which[at].mean()) / k)


def roc(scores: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """The share of true units found at each share of false alarms on `GRID` (0 to 1, 51 points): the ROC curve, a straight
    line across ties. Raises as `auroc`."""
    values, which = _checked(scores, truth)
    levels = np.unique(values)[::-1]
    hits, false = (
        [0.0, *[float((part >= level).mean()) for level in levels]] for part in (values[which], values[~which])
    )
    x, y = np.array(false), np.array(hits)
    # The last point at or before each place, so that a step is taken where it is; the end of the curve is its own next.
    at = np.searchsorted(x, GRID, side="right") - 1
    after = np.minimum(at + 1, len(x) - 1)
    along = np.divide(GRID - x[at], x[after] - x[at], out=np.zeros_like(GRID), where=x[after] > x[at])
    return y[at] + along * (y[after] - y[at])


def recovery_p(
    maps: Sequence[ArrayLike],
    truths: Sequence[ArrayLike],
    *,
    seed: int,
    within_layers: bool = False,
    draws: int = 2_000,
) -> float:
    """One-sided p of the mean AUROC over plants against random units in place of the true ones.

    `maps` holds [repeats, layers, heads] a plant and `truths` [layers, heads]. `within_layers` keeps how many true ones each layer
    has, so that a score which only knows the layers gains nothing. Plants are drawn apart, repeats of one together. Raises
    `InputError` for shapes that do not fit, and as `auroc`.
    """
    if len(maps) != len(truths) or not len(maps):
        raise InputError("each plant needs maps and a truth", got=f"{len(maps)} and {len(truths)}")
    draw = rng(seed, "recovery", "layers" if within_layers else "all")
    observed, null = 0.0, np.zeros(draws)
    for several, truth in zip(maps, truths, strict=True):
        values, which = np.asarray(several, dtype=np.float64), np.asarray(truth, dtype=bool)
        if values.ndim != 3 or values.shape[1:] != which.shape or not len(values):
            raise InputError(
                "maps are [repeats, layers, heads] and truths [layers, heads]", got=[values.shape, which.shape]
            )
        ranks = np.mean([rankdata(_checked(one, which)[0]) for one in values], axis=0).reshape(which.shape)
        observed += _of_ranks(ranks.ravel(), which.ravel())
        if within_layers:
            # The order of random numbers within each layer: heads change places, layers do not.
            order = draw.random((draws, *which.shape)).argsort(axis=2)
            sums = (np.take_along_axis(ranks[None], order, axis=2) * which).sum(axis=(1, 2))
        else:
            order = draw.random((draws, which.size)).argsort(axis=1)
            sums = (ranks.ravel()[order] * which.ravel()).sum(axis=1)
        k, n = int(which.sum()), which.size
        null += (sums - k * (k + 1) / 2) / (k * (n - k))
    return p_from_null(observed / len(maps), null / len(maps), alternative="greater")


def _of_ranks(ranks: NDArray, which: NDArray) -> float:
    k, n = int(which.sum()), which.size
    return float((ranks[which].sum() - k * (k + 1) / 2) / (k * (n - k)))


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, which = finite_vector(np.ravel(np.asarray(scores)), "scores"), np.ravel(np.asarray(truth))
    if which.dtype != bool or which.shape != values.shape or which.all() or not which.any():
        raise InputError(
            "truth says of every unit whether it is one, and some are",
            got=f"{which.dtype} {which.shape} for scores {values.shape}",
        )
    return values, which
