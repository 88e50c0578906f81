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


def paired(reference: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """Seconds of `reference` over seconds of `ours`, in turn after one warm-up: (median, lowest, highest) ratio."""
    reference(), ours()
    ratios = []
    for _ in range(repeats):
        start = time.perf_counter()
        reference()
        middle = time.perf_counter()
        ours()
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return statistics.median(ratios), min(ratios), max(ratios)


def speed_line(what: str, ratios: tuple[float, float, float], bound: float, repeats: int) -> Line:
    """A line for a speed-up: met if the median reaches the bound."""
    median, low, high = ratios
    value = f"{median:.2f}x ({low:.2f} to {high:.2f}, {repeats} pairs)"
    return Line(what=what, value=value, bound=f">= {bound}x", met=median >= bound)
