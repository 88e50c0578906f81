"""Laws of the grid: every row in its cell whatever the order, and no cell filled twice or left open."""

import itertools

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.stats.grids import grid_from_rows

# Phrasing names differ from fact to fact in the first, and are shared in the second.
NESTED = [(s, f, f"{f} {p}") for s, f, p in itertools.product([10, 2], ["b", "a", "c"], ["worded so", "or so"])]
SHARED = [(s, f, p) for s, f, p in itertools.product([10, 2], ["b", "a", "c"], ["worded so", "or so"])]


def columns(cells):
    return tuple(list(column) for column in zip(*cells, strict=True))


@pytest.mark.parametrize("cells", [NESTED, SHARED])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_row_lands_in_the_cell_of_its_sorted_names(cells, shuffled):
    if shuffled:
        cells = [cells[i] for i in np.random.default_rng(0).permutation(len(cells))]
    numbers = {cell: float(i) for i, cell in enumerate(sorted(cells))}
    found = grid_from_rows([numbers[cell] for cell in cells], *columns(cells))
    assert found.values.shape == (2, 3, 2)
    assert (found.seeds, found.facts) == ((2, 10), ("a", "b", "c"))
    for s, f, p in itertools.product(range(2), range(3), range(2)):
        cell = (found.seeds[s], found.facts[f], found.phrasings[f][p])
        assert found.values[s, f, p] == numbers[cell]


def test_names_may_be_arrays():
    seeds, facts, phrasings = columns(SHARED)
    plain = grid_from_rows(range(12), seeds, facts, phrasings)  # pyright: ignore[reportArgumentType]
    arrays = grid_from_rows(np.arange(12.0), np.array(seeds), np.array(facts), np.array(phrasings, dtype=object))
    assert arrays.names == plain.names
    assert (arrays.values == plain.values).all()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([*SHARED, SHARED[3]], "more than once.*1 of 12, the first: seed 10, fact a, phrasing or so"),
        (SHARED[:-1], "are missing.*1 of 12, the first: seed 2, fact c, phrasing or so"),
        (NESTED[:5] + NESTED[6:], "are missing.*seed 10, fact c, phrasing c or so"),
        ([cell for cell in SHARED if cell[1:] != ("c", "or so")], "number of phrasings.*1 of c and 2 of a"),
        ([*SHARED, (10, "b", "a third"), (2, "b", "a third")], "number of phrasings.*2 of a and 3 of b"),
        ([("10", *SHARED[0][1:]), *SHARED[1:]], r"seeds are of an unusable kind.*\['int', 'str'\]"),
        ([(10, None, "x"), *SHARED], "facts are of an unusable kind"),
    ],
)
def test_rows_that_are_no_grid_are_refused(cells, message):
    with pytest.raises(InputError, match=message):
        grid_from_rows(np.arange(float(len(cells))), *columns(cells))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_columns_of_unequal_length_are_refused(place):
    names = list(columns(SHARED))
    names[place] = names[place][:-1]
    with pytest.raises(InputError, match=r"differ in length.*12 values and 11"):
        grid_from_rows(np.arange(12.0), *names)


@pytest.mark.parametrize("values", [[np.nan] * 12, ["1"] * 12, []])
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises(InputError, match="values"):
        grid_from_rows(values, *columns(SHARED))
