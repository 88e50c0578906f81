"""Debiased linear CKA: how alike two representations of the same prompts are, whatever their rotation and scale.

Centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414) with the unbiased estimate of HSIC (Song et al.
2012, JMLR 13, 1393-1434): the biased one nears 1 for any two representations with more dimensions than prompts. CKA
cannot see a common scaling: a pure dampener of everything has CKA 1. Draw the relative displacement beside it.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError
from mechgate.stats.samples import LARGEST, whole_number

FEWEST_ROWS = 4


def debiased_cka(first: ArrayLike, second: ArrayLike, *, drop: int = 0, z_score: bool = False) -> float:
    """Linear CKA of two arrays [prompts, dimensions] of the same prompts, row by row; dimensions may differ in number.

    1 where one is a rotated and scaled copy of the other, about 0 where they are unrelated (it may fall below 0, which
    is no error of an unbiased estimate). `drop` leaves out that many dimensions of the largest variance: those of
    `first` where both have equally many (the same neurons, before and after), each array's own otherwise. `z_score`
    then divides each dimension by its standard deviation over prompts; dimensions that do not vary are left as 0.

    Raises `InputError` for fewer than 4 prompts, numbers that are not finite, arrays that do not match, nothing left
    after dropping, and a representation that is the same for all prompts.
    """
    x, y = _checked(first, "the first representation"), _checked(second, "the second representation")
    if len(x) != len(y):
        raise InputError("CKA compares representations of the same prompts", got=f"{len(x)} and {len(y)} rows")
    drop = whole_number(drop, "drop", least=0)
    if drop >= min(x.shape[1], y.shape[1]):
        raise InputError("no dimension is left", got=f"drop={drop} of {x.shape[1]} and {y.shape[1]} dimensions")
    if drop:
        away = np.argsort(x.var(axis=0), kind="stable")[-drop:]
        own = away if x.shape[1] == y.shape[1] else np.argsort(y.var(axis=0), kind="stable")[-drop:]
        x, y = np.delete(x, away, axis=1), np.delete(y, own, axis=1)
    grams = [_gram(_standardised(one) if z_score else one) for one in (x, y)]
    cross, own_first, own_second = (unbiased_hsic(grams[i], grams[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    if own_first <= 0 or own_second <= 0:
        raise InputError(
            "CKA is undefined where a representation does not tell the prompts apart",
            got=f"HSIC with itself {own_first:.3g} and {own_second:.3g}",
            do="use more prompts, or a layer where they differ",
        )
    return float(cross / np.sqrt(own_first * own_second))


def unbiased_hsic(first: NDArray, second: NDArray) -> float:
    """The unbiased estimate of HSIC from two kernel matrices [n, n] over the same n >= 4 samples (Song et al., eq. 5).

    Its mean over samples is 0 for independent representations. Diagonals are not looked at.
    """
    n = len(first)
    if n < FEWEST_ROWS or first.shape != (n, n) or second.shape != (n, n):
        raise InputError("HSIC needs two square kernels of at least 4 samples", got=f"{first.shape}, {second.shape}")
    k, m = (one - np.diag(np.diag(one)) for one in (first, second))
    rows, columns = k.sum(axis=1), m.sum(axis=1)
    whole = (k * m).sum() + rows.sum() * columns.sum() / ((n - 1) * (n - 2)) - 2 * rows @ columns / (n - 2)
    return float(whole / (n * (n - 3)))


def _checked(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < FEWEST_ROWS or not array.shape[1]:
        raise InputError(
            f"{what} needs at least {FEWEST_ROWS} prompts", got=f"shape {array.shape}", allowed="[prompts, dimensions]"
        )
    if not (np.abs(array) < LARGEST).all():
        raise InputError(f"{what} has numbers that are not finite", got=int((~np.isfinite(array)).sum()))
    return array


def _standardised(x: NDArray) -> NDArray:
    centred = x - x.mean(axis=0)
    deviation = centred.std(axis=0)
    varies = deviation > 1e-12 * np.abs(x).max(initial=0.0)
    return np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0)


def _gram(x: NDArray) -> NDArray:
    # HSIC does not change with the mean, but products of large means would cost digits.
    centred = x - x.mean(axis=0)
    scale = np.abs(centred).max(initial=0.0)
    centred = centred / scale if scale > 0 else centred
    return centred @ centred.T
