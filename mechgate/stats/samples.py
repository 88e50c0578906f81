"""Checked input of the statistics: finite vectors, and the means of their clusters."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError

Clusters = Sequence[str] | Sequence[int] | Sequence[np.integer] | NDArray
"""One cluster name a row: all strings or all whole numbers."""

LARGEST = 1e150
"""Numbers of this size and above are refused, because their squares overflow."""


def finite_vector(values: ArrayLike, what: str, *, least: int = 1) -> NDArray[np.float64]:
    """`values` as a float64 vector of shape (n,); `what` names the argument in errors.

    Raises `InputError` when it is not numeric (numbers or booleans), not one-dimensional, shorter than
    `least`, or has an entry that is NaN, infinite or at least 1e150 in size.
    """
    try:
        raw = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is not a vector of numbers", got=str(error)) from error
    if raw.ndim != 1:
        raise InputError(f"{what} must have one dimension", got=f"shape {raw.shape}", do="pass one number a row")
    if raw.size < least:
        raise InputError(f"{what} is too short", got=f"{raw.size} values", allowed=f"at least {least}")
    if raw.dtype.kind not in "biuf":
        raise InputError(f"{what} is not a vector of numbers", got=f"dtype {raw.dtype}")
    vector = raw.astype(np.float64)
    unusable = ~(np.abs(vector) < LARGEST)
    if unusable.any():
        where = int(np.argmax(unusable))
        raise InputError(
            f"{what} has {int(unusable.sum())} values that cannot be averaged",
            got=f"{vector[where]} in row {where}",
            allowed=f"finite numbers smaller than {LARGEST:g} in size",
            do="find out why these rows have no value; dropping them silently would bias the estimate",
        )
    return vector


def whole_number(value: int, what: str, *, least: int) -> int:
    """`value` as an int; raises `InputError` when it is not a whole number or is below `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{what} is not usable", got=repr(value), allowed=f"a whole number, at least {least}")
    return int(value)


def cluster_means(
    values: ArrayLike, clusters: Clusters, what: str = "values"
) -> tuple[list[str] | list[int], NDArray[np.float64]]:
    """Names and means of the clusters, sorted by name, so that the order of the rows does not matter.

    `values` and `clusters` have one entry a row. Every cluster gets one mean, however many rows it has.
    Raises `InputError` for values that `finite_vector` refuses, for lengths that differ, and for cluster
    names that are neither all strings nor all whole numbers.
    """
    vector = finite_vector(values, what)
    names = checked_names(clusters, "cluster names")
    if names.size != vector.size:
        raise InputError(
            f"{what} and its clusters differ in length",
            got=f"{vector.size} values and {names.size} cluster names",
            do="pass one cluster name a row, for instance the fact it belongs to",
        )
    unique, index = np.unique(names, return_inverse=True)
    return unique.tolist(), np.bincount(index, weights=vector) / np.bincount(index)


def checked_names(names: Clusters, what: str) -> NDArray:
    """`names` as an array of strings or of whole numbers; raises `InputError` when they are neither, or mixed."""
    given = list(names.tolist() if isinstance(names, np.ndarray) else names)
    # A mixture such as [1, "1"] would become one cluster in a numpy array, without a word.
    if not (all(isinstance(n, str) for n in given) or all(isinstance(n, (int, np.integer)) for n in given)):
        kinds = sorted({type(name).__name__ for name in given})
        raise InputError(f"{what} are of an unusable kind", got=kinds, allowed="all strings or all whole numbers")
    return np.array(given)
