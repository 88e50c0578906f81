"""The difference between two families of gate sets on the same facts, when neither family's sets are given."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.estimates import FEWEST_DRAWS, Estimate
from mechgate.stats.samples import finite_vector, whole_number

_BATCH = 2_000_000


def family_contrast(
    first: tuple[ArrayLike, ...],
    second: tuple[ArrayLike, ...],
    statistic: Callable[..., Any],
    *,
    paired: bool,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> Estimate:
    """`statistic(*means of first, *means of second)` with a percentile interval over gate sets and facts.

    `first` and `second` hold measures of two families, each [sets, facts, phrasings], all on the same facts and
    phrasings. Each draw takes facts with replacement (the same for both families, with all their phrasings), and sets
    with replacement: those of the two families independently, or, if `paired`, the same (a null with the gates that it
    was drawn from). One set alone is not resampled, and `method` says which were. `n` is the number of facts.
    `statistic` takes one grand mean a measure, and works element by element.

    Raises `InputError` for measures of unequal shape within a family, other facts or phrasings, unequal numbers of
    paired sets, fewer than two facts, and values that are not finite.
    """
    draws = whole_number(draws, "draws", least=FEWEST_DRAWS)
    groups = [_cells(one, name) for one, name in ((first, "first"), (second, "second"))]
    shapes = [group[0].shape for group in groups]
    if shapes[0][1:] != shapes[1][1:] or (paired and shapes[0] != shapes[1]) or shapes[0][1] < 2:
        raise InputError(
            "two families must be measured on the same facts, two at least, and paired sets be equally many",
            got=f"{shapes[0]} and {shapes[1]} (sets, facts, phrasings)",
        )
    by_fact = [[one.mean(axis=2) for one in group] for group in groups]
    value = float(statistic(*(one.mean() for group in by_fact for one in group)))
    generator, found = rng(seed, "family contrast"), np.empty(draws)
    n_facts, (n_first, n_second) = shapes[0][1], (shapes[0][0], shapes[1][0])
    rows = max(1, _BATCH // (max(n_first, n_second) * n_facts))
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        facts = generator.integers(0, n_facts, (size, 1, n_facts))
        sets = [generator.integers(0, n, (size, n, 1)) for n in (n_first, n_second)]
        if paired:
            sets[1] = sets[0]
        means = [one[s, facts].mean(axis=(1, 2)) for group, s in zip(by_fact, sets, strict=True) for one in group]
        found[start : start + size] = statistic(*means)
    if not np.isfinite(found).all():
        raise InputError("the statistic is not finite in some draws", got=int((~np.isfinite(found)).sum()))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    over = ["sets of both"] * (n_first > 1 and n_second > 1) + ["sets of one"] * ((n_first > 1) != (n_second > 1))
    return Estimate(
        value=value,
        low=float(low),
        high=float(high),
        level=level,
        n=n_facts,
        method=f"{'paired ' if paired else ''}percentile over {', '.join([*over, 'facts'])}",
    )


def _cells(measures: tuple[ArrayLike, ...], name: str) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(one, dtype=np.float64) for one in measures]
    if not arrays or any(one.ndim != 3 or not one.size or one.shape != arrays[0].shape for one in arrays):
        raise InputError(
            f"the {name} family needs measures of one shape",
            got=[one.shape for one in arrays],
            allowed="[sets, facts, phrasings]",
        )
    for one in arrays:
        finite_vector(one.ravel(), name)
    return arrays
