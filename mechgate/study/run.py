"""Running a study in a folder: locked, logged, killed at any moment without loss, and never doing a thing twice."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from mechgate.errors import DataError, InputError, StorageError
from mechgate.provenance import provenance, write_json, write_text
from mechgate.report.page import write_report
from mechgate.study.config import QUESTIONS, StudyConfig
from mechgate.study.executors import in_order, in_processes
from mechgate.study.steps import Step, planned

EXECUTORS = ("serial", "processes", "ray")
_FREE = ("questions", "settings")
"""What may differ between two runs in one folder: asking more, or asking otherwise, changes no gates."""


class Interrupted(KeyboardInterrupt):
    """A study was asked to stop, and did after the step that it was in."""


def run_study(
    config: StudyConfig,
    folder: str | Path,
    *,
    executor: Literal["serial", "processes", "ray"] = "serial",
    workers: int | None = None,
    address: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Do what is missing of a study in `folder` and return the path of its report.

    The folder holds config.yaml, gates/, hosts/, saes/, tables/ (what was measured), results/ (JSON, and tables as
    parquet), figures/, report.html, log.txt and provenance.json. Whatever is there and made from the same inputs is kept:
    killed at any moment, the same call goes on. `executor` "processes" runs steps of one kind side by side in `workers`
    processes, "ray" as tasks of a Ray cluster at `address` (None: a local one).

    Raises `StorageError` where another run has the folder, where it holds another study or something else, and
    where it cannot be written; `InputError` for settings that cannot be used; what training and questions raise.
    """
    root = Path(folder)
    if executor not in EXECUTORS:
        raise InputError("executor is not known", got=repr(executor), allowed=list(EXECUTORS))
    _claim(root, config)
    with _locked(root), _log(root, say) as tell, _patient(tell) as stopping:
        started = time.monotonic()
        write_text(root / "config.yaml", yaml.safe_dump(config.dump(), sort_keys=False, allow_unicode=True))
        write_json(root / "provenance.json", provenance(config=config.dump(), executor=executor))
        steps = planned(config)
        tell(f"study in {root}: {len(steps)} steps, {executor}")
        _perform_all(steps, config, root, executor, workers, address, tell, stopping)
        report = write_report(root)
        tell(f"report: {report} (after {time.monotonic() - started:.0f} s)")
    return report


def _perform_all(
    steps: list[Step],
    config: StudyConfig,
    root: Path,
    executor: str,
    workers: int | None,
    address: str | None,
    tell: Callable[[str], None],
    stopping: Callable[[], None],
) -> None:
    # Questions need all training, and training steps nothing: two rounds, each in any order.
    for round_of in ([s for s in steps if s.kind != "question"], [s for s in steps if s.kind == "question"]):
        if executor == "serial":
            in_order(round_of, config, root, tell, stopping)
        elif executor == "processes":
            in_processes(round_of, config, root, tell, stopping, workers=workers)
        else:
            from mechgate.study.cluster import on_ray

            on_ray(round_of, config, root, tell, stopping, address=address)


def _claim(root: Path, config: StudyConfig) -> None:
    """Raise `StorageError` unless the folder is new, empty, or holds this study."""
    kept = root / "config.yaml"
    if root.exists() and not root.is_dir():
        raise StorageError("the run folder is a file", got=str(root), do="choose another folder")
    if not kept.is_file():
        if root.is_dir() and any(path.name != ".lock" for path in root.iterdir()):
            raise StorageError(
                "the folder holds something else than a study", got=str(root), do="choose another folder"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the run folder {root}", got=error.strerror, do="choose a folder that you may write to"
            ) from error
        return
    try:
        old: Any = yaml.safe_load(kept.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{kept} is damaged", got=str(error)[:200], do="choose another folder") from error
    new = config.dump()
    differs = sorted(
        k
        for k in {*new, *(old if isinstance(old, dict) else {})}
        if k not in _FREE and (old or {}).get(k) != new.get(k)
    )
    if differs:
        raise StorageError(
            "the run folder holds another study",
            got=f"{root}, which differs in {', '.join(differs)}",
            allowed=f"changes of {' and '.join(_FREE)} only",
            do="choose another folder, or ask as its config.yaml says",
        )
    if foreign := sorted(p.stem for p in (root / "results").glob("*.json") if p.stem not in QUESTIONS):
        raise StorageError("the run folder has results that no study writes", got=foreign, do="move them elsewhere")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """The folder's lock, which the system lets go of when the process ends, however it ends."""
    try:
        file = open(root / ".lock", "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise StorageError(
            f"cannot write in {root}", got=error.strerror, do="choose a folder that you may write to"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise StorageError(
                "another run has this folder",
                got=f"{root}, process {file.read().strip() or 'unknown'}",
                do="wait for it",
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _log(root: Path, say: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Says a line, and appends it with its time to log.txt."""
    with open(root / "log.txt", "a", encoding="utf-8") as file:

        def tell(text: str) -> None:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
            file.flush()
            say(text)

        yield tell


@contextmanager
def _patient(tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """While it lasts, a first interrupt is kept until `stopping()` is called, which then raises `Interrupted`; a second one
    stops at once. Only the main thread gets signals: elsewhere this does nothing."""
    asked = False

    def stopping() -> None:
        if asked:
            tell("stopped; the same command goes on from here")
            raise Interrupted

    def on_interrupt(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        tell("interrupted: finishing the current step (once more to stop at once; nothing finished is lost)")

    try:
        before = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:  # not the main thread
        yield lambda: None
        return
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)
