"""Cosines of directions, with nulls and intervals: random sums of rows give all of them.

A row is one prompt's (or one pair of replies') vector, [n, places, d]. A mean, a bootstrap draw, half of the rows, a
mean with labels exchanged and a Gaussian with the rows' covariance are all weighted sums of them, weights @ rows. "Places" are
layers; each draw has the same weights at all of them, so that the largest over places is a fair null of the largest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.permutation import FEWEST_NULLS
from mechgate.stats.samples import whole_number

_TINY = 1e-12


def _rows(values: Any, what: str) -> NDArray[np.float64]:
    rows = np.asarray(values)
    if rows.ndim != 3 or not rows.size or not np.isfinite(rows).all():
        raise InputError(f"{what} must be finite vectors", got=f"shape {rows.shape}", allowed="[n, places, d], n >= 1")
    return rows


def cosines(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Cosine along the last axis, broadcast; 0 where one of the two is exactly zero (what did not move has no direction)."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    size = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.where(size > 0, size, 1)


def gaussian_weights(n: int, draws: int, *, seed: int) -> NDArray[np.float64]:
    """Weights [draws, n] whose sums of centred rows are Gaussian with the rows' covariance (times n).

    They add up to 0 over the rows, so that rows need not be centred. Isotropic directions are far too easy a null: the
    activations of a language model vary along few directions.
    """
    weights = rng(seed, "gaussian directions").standard_normal((draws, n))
    return weights - weights.mean(axis=1, keepdims=True)


def label_weights(n: int, draws: int, *, seed: int) -> NDArray[np.float64]:
    """Weights [draws, n] of 1/n or -1/n: the mean difference with the two labels exchanged in a random half of the pairs."""
    return rng(seed, "exchanged labels").choice([-1.0, 1.0], size=(draws, n)) / n


def in_span(basis: NDArray, directions: NDArray) -> NDArray[np.float64]:
    """The share of the length of `directions` [..., d] that lies in the span of orthonormal rows `basis` [k, d]: [...], 0 to 1.

    With one row it is the size of the cosine; 0 for an empty basis, and for a direction that is exactly zero.
    """
    directions = np.asarray(directions, dtype=np.float64)
    size = np.linalg.norm(directions, axis=-1)
    inside = np.linalg.norm(directions @ np.asarray(basis, dtype=np.float64).T, axis=-1)
    return inside / np.where(size > 0, size, 1)


def null_cosines(
    moved: NDArray | Sequence[NDArray], rows: NDArray, weights: NDArray, *, spans: bool = False
) -> NDArray[np.float64]:
    """Cosine of `moved` [places, d] with each weighted sum of `rows` [n, places, d]: [draws, places].

    With `spans`, `moved` is one orthonormal basis [k, d] a place, and what is given is `in_span`. Raises `InputError`
    for sizes that do not fit.
    """
    rows = _rows(rows, "rows")
    sizes = {np.shape(one)[-1] for one in moved}
    if weights.ndim != 2 or weights.shape[1] != len(rows) or len(moved) != rows.shape[1] or sizes != {rows.shape[2]}:
        raise InputError(
            "null directions need one weight a row, and vectors of one size",
            got=f"moved {len(moved)} of {sorted(sizes)}, rows {rows.shape}, weights {weights.shape}",
        )
    found = np.empty((len(weights), len(moved)))
    for place, one in enumerate(moved):
        drawn = weights @ rows[:, place].astype(np.float64)
        found[:, place] = in_span(one, drawn) if spans else cosines(drawn, one)
    return found


@dataclass(frozen=True, kw_only=True)
class OverPlaces:
    """How unusual a curve over places is: `p` [places] adjusted for the largest place, `p_any` of the whole curve (the least
    of them), the null's `band` [places] (the 95th percentile of its size at each place alone) and its number of draws."""

    p: tuple[float, ...]
    p_any: float
    band: tuple[float, ...]
    draws: int

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"p": list(self.p), "p_any": self.p_any, "band": list(self.band), "draws": self.draws}


def against_null(observed: NDArray, null: NDArray) -> OverPlaces:
    """Compare a curve [places] with null curves [draws, places]: sizes, two-sided, the largest over places.

    Places differ in their null's spread, so each is divided by it (root mean square of observed and null values, which
    are exchangeable under the null) before the largest is taken (Westfall and Young's single step). A place where
    nothing moved has p = 1. Raises `InputError` for fewer than 19 draws and for shapes that differ.
    """
    if observed.ndim != 1 or null.ndim != 2 or null.shape[1:] != observed.shape or len(null) < FEWEST_NULLS:
        raise InputError(
            "a curve needs null curves of its length",
            got=f"{observed.shape} and {null.shape}",
            allowed=f"at least {FEWEST_NULLS} draws",
        )
    both = np.concatenate([observed[None], null])
    scale = np.sqrt((both**2).mean(axis=0))
    scaled = np.abs(both) / np.where(scale > _TINY, scale, np.inf)
    largest = scaled[1:].max(axis=1)
    p = ((largest[:, None] >= scaled[0] - _TINY).sum(axis=0) + 1) / (len(null) + 1)
    band = np.quantile(np.abs(null), 0.95, axis=0)
    return OverPlaces(p=tuple(p.tolist()), p_any=float(p.min()), band=tuple(band.tolist()), draws=len(null))


def cosine_interval(
    rows: NDArray, direction: NDArray, *, seed: int, draws: int = 2000, level: float = 0.95
) -> dict[str, list[float]]:
    """Cosine of the mean of `rows` [n, places, d] with `direction` [places, d], and its interval: value, low, high [places].

    Percentile bootstrap of the rows (one a fact; average the phrasings first). Resampling adds noise to the mean, so
    that cosines of few or noisy rows are drawn towards 0 a little. Raises `InputError` for fewer than two rows.
    """
    rows = _rows(rows, "rows")
    if len(rows) < 2:
        raise InputError("an interval needs at least two rows", got=len(rows))
    draws = whole_number(draws, "draws", least=100)
    counts = rng(seed, "cosine bootstrap").multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
    ends = np.empty((2, rows.shape[1]))
    for place in range(rows.shape[1]):
        found = _cosines_of_sums(rows[:, place], direction[place], counts)
        ends[:, place] = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    value = cosines(rows.mean(axis=0, dtype=np.float64), direction)
    low, high = np.minimum(ends[0], value), np.maximum(ends[1], value)
    return {"value": value.tolist(), "low": low.tolist(), "high": high.tolist()}


def _cosines_of_sums(rows: NDArray, direction: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """Cosine of each weighted sum of rows [n, d] with a direction: [draws]. Norms come from the rows' Gram matrix."""
    rows, direction = rows.astype(np.float64), np.asarray(direction, dtype=np.float64)
    along, weights = rows @ direction, weights.astype(np.float64)
    gram = rows @ rows.T
    size = np.sqrt(np.maximum(np.einsum("ij,ij->i", weights @ gram, weights), 0)) * np.linalg.norm(direction)
    return (weights @ along) / np.where(size > _TINY * max(1.0, float(np.abs(gram).max())) ** 0.5, size, np.inf)


def share_along(rows: NDArray, direction: NDArray) -> NDArray[np.float64]:
    """The share of the squared length of `rows` [n, places, d] that lies along `direction` [places, d]: [places], 0 to 1.

    Summed over rows before dividing; 0 where no row moved.
    """
    rows = _rows(rows, "rows").astype(np.float64)
    size = np.linalg.norm(direction, axis=-1, keepdims=True).astype(np.float64)
    unit = direction / np.where(size > 0, size, 1)
    whole = (rows**2).sum(axis=(0, 2))
    return (np.einsum("npd,pd->np", rows, unit) ** 2).sum(axis=0) / np.where(whole > 0, whole, 1)


def split_half(rows: NDArray, groups: NDArray, *, seed: int, splits: int = 100) -> NDArray[np.float64]:
    """Cosine of the mean of one half of the `groups` with that of the other: [splits, places].

    All rows of a group (a question, a pair of system messages) fall into the same half; the halves are random and, of
    an odd number of groups, unequal. Means over rows, as the vectors themselves. Raises `InputError` for fewer than two
    groups.
    """
    rows = _rows(rows, "rows")
    names, at = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2 or len(at) != len(rows):
        raise InputError("halves need one group a row, and at least two groups", got=f"{len(names)} groups")
    sums = np.zeros((len(names), *rows.shape[1:]))
    np.add.at(sums, at, rows.astype(np.float64))
    stream = rng(seed, "halves")
    first = np.zeros((splits, len(names)))
    for draw in first:
        draw[stream.permutation(len(names))[: len(names) // 2]] = 1
    found = np.empty((splits, rows.shape[1]))
    for place in range(rows.shape[1]):
        found[:, place] = cosines(first @ sums[:, place], (1 - first) @ sums[:, place])
    return found
