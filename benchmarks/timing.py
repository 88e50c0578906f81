"""Timing two ways of doing the same thing in turn, so that a machine that slows down slows both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the benchmark: what, its number, the bound it should reach (None: reported only), and whether it did."""

    what: str
    value: str
    bound: str
    met: bool | None


def paired(reference: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Seconds of `reference` over seconds of `ours`, in turn after one warm-up: (of the fastest runs, median of pairs).

    The fastest run of each is the one that others on the machine disturbed least.
    """
    reference(), ours()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        reference()
        middle = time.perf_counter()
        ours()
        times.append((middle - start, time.perf_counter() - middle))
    fastest = min(theirs for theirs, _ in times) / min(mine for _, mine in times)
    return fastest, statistics.median(theirs / mine for theirs, mine in times)


def speed_line(what: str, ratios: tuple[float, float], bound: float, repeats: int) -> Line:
    """A line for a speed-up: met if the ratio of the fastest runs reaches the bound."""
    fastest, median = ratios
    value = f"{fastest:.2f}x (fastest of {repeats}; median of pairs {median:.2f}x)"
    return Line(what=what, value=value, bound=f">= {bound}x", met=fastest >= bound)
