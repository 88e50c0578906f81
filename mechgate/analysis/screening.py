"""Thousands of nulls from one table of contributions: sign flips and permutations as inner products.

g - 1 = tanh((Wx + b) / 2) is odd in (W, b), so a flipped unit contributes the opposite, and a permuted one its slope
times another's g - 1. To first order a null's effect is therefore a signed or re-paired sum of the learned gates' own
table (`mechgate.analysis.attribution.Screen`). A screen is only that: its p-values count where exact evaluations of
some of its draws correlate with it, which the table itself cannot know.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError
from mechgate.seeding import rng

LEAST_CORRELATION = 0.95
"""Below this correlation of screened with exact effects a screened p-value is not to be printed."""
_AT_ONCE = 8_000_000


def screened_flips(contributions: ArrayLike, *, draws: int, seed: int) -> NDArray[np.float64]:
    """Effects of `draws` nulls that flip each contribution's sign by a fair coin: [draws], in its unit.

    `contributions` [n] are means over prompts of whatever flips together: units, or sums over a head's or a layer's.
    Raises `InputError` for no draws and values that are not finite.
    """
    values = _finite(contributions, 1).astype(np.float32)
    _check(draws)
    stream, found = rng(seed, "screened flips"), np.empty(draws)
    rows = max(1, _AT_ONCE // values.size)
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        bits = np.frombuffer(stream.bytes(size * (-(-values.size // 8))), dtype=np.uint8).reshape(size, -1)
        flips = np.unpackbits(bits, axis=1, count=values.size).astype(np.float32)
        found[start : start + size] = flips @ (-2 * values)
    return found + np.float64(values.sum())


def screened_permutations(tables: ArrayLike, *, draws: int, seed: int, group: int | None = None) -> NDArray[np.float64]:
    """Effects of `draws` nulls that permute gates within each table: [draws], in its unit.

    `tables` [..., n, n]: what place i contributes with the gate of place j, means over prompts; each table is permuted
    on its own. `group` permutes only within consecutive places of that many (heads that share keys and values).
    Raises `InputError` for tables that are not square, a group that does not divide them, and as `screened_flips`.
    """
    values = _finite(tables, 2)
    _check(draws)
    n = values.shape[-1]
    size = group or n
    if values.shape[-2] != n or size < 1 or n % size:
        raise InputError(
            "tables must be square and made of whole groups", got=f"shape {values.shape}, groups of {size}"
        )
    values = values.reshape(-1, n, n)
    blocks = np.concatenate([values[:, k : k + size, k : k + size] for k in range(0, n, size)])
    stream, found = rng(seed, "screened permutations"), np.empty(draws)
    rows = max(1, _AT_ONCE // (blocks.shape[0] * size))
    where = np.arange(blocks.shape[0])[None, :, None]
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        orders = stream.random((count, blocks.shape[0], size), dtype=np.float32).argsort(axis=2)
        found[start : start + count] = blocks[where, np.arange(size)[None, None], orders].sum(axis=(1, 2))
    return found


def agreement(screened: ArrayLike, exact: ArrayLike) -> dict[str, float]:
    """How well screened effects stand for exact ones of the same draws: Pearson's r, the slope of exact on screened,
    and the number of draws. Raises `InputError` for fewer than three draws, or ones that do not vary."""
    one, other = _finite(screened, 1), _finite(exact, 1)
    if one.shape != other.shape or one.size < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        raise InputError(
            "agreement needs the same three or more draws, and different effects",
            got=f"{one.size} screened and {other.size} exact",
        )
    r = float(np.corrcoef(one, other)[0, 1])
    return {"r": r, "slope": float(r * other.std() / one.std()), "draws": one.size}


def _finite(values: ArrayLike, least_dimensions: int) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim < least_dimensions or (least_dimensions == 1 and found.ndim != 1) or not found.size:
        raise InputError("a table of contributions has another shape", got=found.shape)
    if not np.isfinite(found).all():
        raise InputError("contributions must be finite", got=f"{int((~np.isfinite(found)).sum())} that are not")
    return found


def _check(draws: int) -> None:
    if type(draws) is not int or draws < 1:
        raise InputError("a screen needs at least one draw", got=draws)
