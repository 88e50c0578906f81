"""Progress with time left: bars in a terminal, a plain line now and then in a log, nothing when quiet."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
LOG_EVERY_SECONDS = 15.0


def is_quiet() -> bool:
    """True when the environment variable MECHGATE_QUIET is set to anything but 0."""
    return os.environ.get("MECHGATE_QUIET", "0") not in ("", "0")


def track(items: Iterable[T], label: str | None, total: int | None = None) -> Iterator[T]:
    """Yield `items` while showing how far along they are and how long the rest will take (on stderr).

    Without a `label` nothing is shown: for loops inside a loop that shows itself.
    """
    if total is None:
        items = items if hasattr(items, "__len__") else list(items)
        total = len(items)  # pyright: ignore[reportArgumentType]
    if label is None or is_quiet() or total == 0:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, label, total)
    else:
        yield from _lines(items, label, total)


def _bar(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_EVERY_SECONDS and done < total:
            last = now
            left = (now - start) / done * (total - done)
            print(f"{label}: {done}/{total}, {now - start:.0f} s gone, about {left:.0f} s left", file=sys.stderr)
    taken = time.monotonic() - start
    if taken >= 5:
        print(f"{label}: {total}/{total} in {taken:.0f} s", file=sys.stderr, flush=True)
