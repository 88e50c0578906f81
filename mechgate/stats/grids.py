"""Measures of gate seeds x facts x phrasings as grids, from rows in any order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError
from mechgate.stats.samples import Clusters, checked_names, finite_vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """A measure with one value for each seed, fact and phrasing.

    `values` has shape [seeds, facts, phrasings]; `seeds` and `facts` name the first two axes in sorted order, and
    `phrasings[i]` names the phrasings of fact i, sorted too (they are nested: another fact may have other names).
    """

    values: NDArray[np.float64]
    seeds: tuple[str, ...] | tuple[int, ...]
    facts: tuple[str, ...] | tuple[int, ...]
    phrasings: tuple[tuple[str, ...] | tuple[int, ...], ...]

    @property
    def names(self) -> tuple:
        return self.seeds, self.facts, self.phrasings


def grid_from_rows(values: ArrayLike, seeds: Clusters, facts: Clusters, phrasings: Clusters) -> Grid:
    """The grid of rows in any order; each of the four has one entry a row.

    Raises `InputError` for values that are not finite numbers, lengths that differ, names that are neither all
    strings nor all whole numbers, facts with unequal numbers of phrasings, and for a seed, fact and phrasing that
    occur twice or not at all: dropping or averaging such rows silently would weight the facts unequally.
    """
    vector = finite_vector(values, "values")
    names = [_names(given, what, vector.size) for given, what in ((seeds, "seeds"), (facts, "facts"))]
    wordings = _names(phrasings, "phrasings", vector.size)
    (seed_names, seed_at), (fact_names, fact_at) = (np.unique(given, return_inverse=True) for given in names)

    of_fact = [np.unique(wordings[fact_at == i]) for i in range(fact_names.size)]
    sizes = np.array([found.size for found in of_fact])
    if np.ptp(sizes):
        few, many = int(np.argmin(sizes)), int(np.argmax(sizes))
        raise InputError(
            "the facts differ in their number of phrasings",
            got=f"{sizes[few]} of {fact_names[few]} and {sizes[many]} of {fact_names[many]}",
            do="measure every fact with equally many phrasings",
        )
    phrasing_at = np.empty(vector.size, dtype=int)
    for i, found in enumerate(of_fact):
        rows = fact_at == i
        phrasing_at[rows] = np.searchsorted(found, wordings[rows])

    counts = np.zeros((seed_names.size, fact_names.size, int(sizes[0])), dtype=int)
    np.add.at(counts, (seed_at, fact_at, phrasing_at), 1)
    for wrong, what in ((counts > 1, "occur more than once"), (counts == 0, "are missing")):
        if wrong.any():
            s, f, p = (int(place[0]) for place in np.nonzero(wrong))
            raise InputError(
                f"some cells of the grid {what}",
                got=f"{int(wrong.sum())} of {counts.size}, the first: "
                f"seed {seed_names[s]}, fact {fact_names[f]}, phrasing {of_fact[f][p]}",
                allowed="one row for each seed, fact and phrasing",
            )
    cells = np.empty(counts.shape)
    cells[seed_at, fact_at, phrasing_at] = vector
    return Grid(
        values=cells,
        seeds=tuple(seed_names.tolist()),
        facts=tuple(fact_names.tolist()),
        phrasings=tuple(tuple(found.tolist()) for found in of_fact),
    )


def _names(given: Clusters, what: str, rows: int) -> NDArray:
    names = checked_names(given, what)
    if names.size != rows:
        raise InputError(f"values and {what} differ in length", got=f"{rows} values and {names.size} {what}")
    return names
