"""Control tasks with as much to learn from as the task they control for: the same steps and the same response tokens."""

from collections.abc import Callable, Sequence

import numpy as np

from mechgate.data.pairs import Example
from mechgate.errors import InputError

TOLERANCE = 0.02


def matched_examples(
    pool: Sequence[Example],
    reference: Sequence[Example],
    count: Callable[[str], int],
    *,
    n: int | None = None,
    tolerance: float = TOLERANCE,
) -> list[Example]:
    """As many examples of `pool` as `reference` has (or `n`), with as many response tokens in all as it has.

    `count` gives a text's number of tokens. Of the pool, the shortest examples are used (or the longest, where it is
    shorter than the reference on average): as many of them as have the reference's mean length, in as many rounds as
    are needed, the last one thinned out evenly. Deterministic; training shuffles.

    Raises `InputError` if the total number of response tokens differs by more than `tolerance`, a share of it.
    """
    if not pool or not reference:
        raise InputError("matching needs examples on both sides", got=f"{len(pool)} and {len(reference)}")
    n, total = n or len(reference), sum(count(example.response) for example in reference)
    lengths = np.array([count(example.response) for example in pool])
    order = np.argsort(lengths, kind="stable")
    if lengths.mean() < total / n:
        order = order[::-1]
    means = lengths[order].cumsum() / np.arange(1, len(order) + 1)
    used = order[: len(order) - int(np.abs(means - total / n)[::-1].argmin())]  # the most of several as good
    rounds, rest = divmod(n, len(used))
    chosen = [*np.tile(used, rounds), *used[np.linspace(0, len(used) - 1, rest).round().astype(int)]]
    got = int(lengths[chosen].sum())
    if abs(got - total) > tolerance * total:
        raise InputError(
            "no even selection of the pool has as many response tokens as the reference",
            got=f"{got} against {total} tokens in {n} examples",
            allowed=f"a difference of at most {tolerance:.0%}",
            do="give the pool shorter and longer answers",
        )
    return [pool[i] for i in chosen]
