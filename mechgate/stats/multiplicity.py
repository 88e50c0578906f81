"""p-values of many tests at once: a few claims (Holm), many features (Benjamini-Hochberg), a map of units (max-T)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.multitest import fdrcorrection

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.permutation import FEWEST_NULLS
from mechgate.stats.samples import finite_vector, whole_number

# Sums of the same numbers in another order differ in their last digits; such a difference is a tie.
_ROUNDING = 1e-12
# Numbers held in memory at once while flipping (32 MB).
_BATCH = 4_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxT:
    """What a max-T test found on a map of units.

    `t` are the units' one-sample t values and `p` their adjusted two-sided p-values, both in the shape of the map:
    the chance that any unit of the map has so large a |t| if no unit has an effect. `n` is the number of clusters,
    `draws` the number of sign patterns behind p, and `exact` says whether these were all there are.
    """

    t: NDArray[np.float64]
    p: NDArray[np.float64]
    n: int
    draws: int
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, maps as nested lists."""
        return {"t": self.t.tolist(), "p": self.p.tolist(), "n": self.n, "draws": self.draws, "exact": self.exact}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values of named claims, adjusted by Holm's step-down method, in the order they were given.

    A claim whose adjusted p is at most alpha holds with a chance of at most alpha that any true null is among those
    rejected, however the tests depend on each other. Raises `InputError` without claims and for anything that is
    not above 0 and at most 1.
    """
    names = list(p_values)
    vector = _p_values(list(p_values.values()), names)
    order = np.argsort(vector, kind="stable")
    # Not statsmodels' multipletests, which collects garbage at every call: a fifth of a second where torch is loaded.
    open_claims = np.arange(vector.size, 0, -1)
    adjusted = np.empty(vector.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(open_claims * vector[order]), 1)
    return dict(zip(names, adjusted.tolist(), strict=True))


def benjamini_hochberg(p_values: ArrayLike, q: float = 0.05) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which of many p-values are discoveries at a false discovery rate of `q`, and the adjusted p-values.

    Both have the shape (n,) of `p_values`, and a test is rejected exactly where its adjusted p is at most `q`. The
    rate holds for independent and for positively dependent tests; confirm what is found on held-out prompts.
    Raises `InputError` without p-values, for anything that is not above 0 and at most 1, and for q outside (0, 1).
    """
    if not 0 < q < 1:
        raise InputError("q is not a false discovery rate", got=q, allowed="above 0, below 1")
    adjusted = np.asarray(fdrcorrection(_p_values(p_values), alpha=q)[1])
    return adjusted <= q, adjusted


def _p_values(values: ArrayLike, names: list[str] | None = None) -> NDArray[np.float64]:
    vector = finite_vector(values, "p_values")
    wrong = ~((vector > 0) & (vector <= 1))
    if wrong.any():
        where = int(np.argmax(wrong))
        place = f"at position {where}" if names is None else f"for {names[where]!r}"
        raise InputError("p_values has something else", got=f"{vector[where]} {place}", allowed="above 0, at most 1")
    return vector


def max_t(values: ArrayLike, *, seed: int, draws: int = 10_000) -> MaxT:
    """Which units of a map differ from 0, with the chance of any false one kept (Westfall and Young 1993, single step).

    `values` has shape [clusters, *map] and holds one paired difference a cluster (fact) and unit (layer x head, say),
    in any unit of measure. The whole map of a cluster changes sign together, which keeps the dependence between
    units; each unit's |t| is compared with the largest |t| of the map under every pattern. All 2**n patterns are
    gone through when there are at most `draws`, and p is exact (no less than 2**(1-n)); otherwise `draws` random
    ones give p = (b + 1) / (draws + 1). Tests symmetry about 0 for all units together.

    A unit that is 0 in every cluster has t = 0 and p = 1. Raises `InputError` for fewer than two clusters, a map
    without units, values that are not finite numbers, fewer than 19 draws, and for a unit with the same difference
    (other than 0) in every cluster, whose t is infinite.
    """
    draws = whole_number(draws, "draws", least=FEWEST_NULLS)
    array = np.asarray(values)
    if array.ndim < 1 or array.shape[0] < 2:
        raise InputError("a max-T test needs at least two clusters", got=f"shape {array.shape}")
    if array.size == 0:
        raise InputError("the map has no units", got=f"shape {array.shape}", allowed="[clusters, *map]")
    n, shape = array.shape[0], array.shape[1:]
    units = finite_vector(array.ravel(), "values").reshape(n, -1)

    largest = np.abs(units).max(axis=0)
    constant = (largest > 0) & (np.ptp(units, axis=0) <= _ROUNDING * largest)
    if constant.any():
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(constant)), shape or (1,)))
        raise InputError(
            "a unit has the same difference in every cluster, so its t is infinite",
            got=f"{int(constant.sum())} units, the first at {where} with {units[0, np.argmax(constant)]:.6g}",
            do="find out whether the clusters are copies of one another",
        )
    # With c = |sum| / sqrt(n * sum of squares), t^2 = (n - 1) c^2 / (1 - c^2). The sum of squares does not change
    # when signs do, so c orders the patterns of all units as |t| does, and stays finite where |t| would not.
    unit_scale = units / np.where(largest > 0, largest, 1)
    length = np.sqrt(n * (unit_scale**2).sum(axis=0))
    scaled = unit_scale / np.where(length > 0, length, 1)
    observed = scaled.sum(axis=0)
    extreme, exact = np.zeros(observed.size, dtype=int), 2**n <= draws
    rows = max(1, _BATCH // max(n, observed.size))
    for signs in _patterns(n, rows, None if exact else draws, seed):
        most = np.sort(np.abs(signs @ scaled).max(axis=1))
        extreme += most.size - np.searchsorted(most, np.abs(observed) - _ROUNDING)
    p = extreme / 2**n if exact else (extreme + 1) / (draws + 1)
    t = math.sqrt(n) * unit_scale.mean(axis=0) / np.where(largest > 0, unit_scale.std(axis=0, ddof=1), 1)
    return MaxT(t=t.reshape(shape), p=p.reshape(shape), n=n, draws=2**n if exact else draws, exact=exact)


def _patterns(n: int, rows: int, draws: int | None, seed: int) -> Iterator[NDArray[np.float64]]:
    """Sign patterns of shape [at most rows, n]: all 2**n of them, or `draws` random ones."""
    generator = rng(seed, "sign flips of maps")
    total = 2**n if draws is None else draws
    for start in range(0, total, rows):
        stop = min(start + rows, total)
        if draws is None:
            bits = (np.arange(start, stop)[:, None] >> np.arange(n)) & 1
        else:
            bits = generator.integers(0, 2, (stop - start, n), dtype=np.int8)
        yield np.where(bits, -1.0, 1.0)
