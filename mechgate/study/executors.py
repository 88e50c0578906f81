"""Doing the steps of a round on one machine: one after another, or side by side in processes."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from mechgate.study.config import StudyConfig
from mechgate.study.steps import Step

Tell = Callable[[str], None]


def in_order(steps: Sequence[Step], config: StudyConfig, root: Path, tell: Tell, stopping: Callable[[], None]) -> None:
    """One step after another in this process. `stopping` is asked before each, and before each table within."""
    from mechgate.study.perform import perform

    def say(text: str) -> None:
        tell(text)
        if text.endswith("..."):  # said before something is made: nothing is half done here
            stopping()

    for step in steps:
        stopping()
        perform(step, config, root, say)


def in_processes(
    steps: Sequence[Step],
    config: StudyConfig,
    root: Path,
    tell: Tell,
    stopping: Callable[[], None],
    *,
    workers: int | None = None,
) -> None:
    """Steps side by side in `workers` fresh processes (default: one a core), the cores shared out evenly between them.

    The first error ends the round, after the steps that run have ended; `stopping` is asked as steps end.
    """
    n = max(1, min(workers or os.cpu_count() or 1, len(steps) or 1))
    threads = max(1, (os.cpu_count() or 1) // n)
    context = multiprocessing.get_context("spawn")  # forked threads of torch may hang
    with ProcessPoolExecutor(n, mp_context=context, initializer=_few_threads, initargs=(threads,)) as pool:
        waiting: set[Future[list[str]]] = {pool.submit(told, step, config, root) for step in steps}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for one in done:
                    for line in one.result():
                        tell(line)
                stopping()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def told(step: Step, config: StudyConfig, root: Path) -> list[str]:
    """Do a step; what it said, line by line."""
    from mechgate.study.perform import perform

    lines: list[str] = []
    perform(step, config, root, lines.append)
    return lines


def _few_threads(n: int) -> None:
    import torch

    torch.set_num_threads(n)
    os.environ["OMP_NUM_THREADS"] = str(n)
