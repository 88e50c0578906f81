"""The same steps as tasks of a Ray cluster: what a step needs goes to a worker, what it makes comes back.

Workers share no disk with us. A task gets the files of the run folder that it may read, works in a folder of its own, and
returns every file that it made or changed. Ray starts a task again on another worker when its own dies.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mechgate.errors import InputError, ModelError, StorageError
from mechgate.provenance import atomic_path
from mechgate.study.config import StudyConfig
from mechgate.study.executors import Tell, told
from mechgate.study.steps import Step

_SENT = ("gates", "hosts", "saes", "tables", ".made-from", "results")
_RETRIES = 3
Files = dict[str, bytes]


def on_ray(
    steps: Sequence[Step],
    config: StudyConfig,
    root: Path,
    tell: Tell,
    stopping: Callable[[], None],
    *,
    address: str | None = None,
    cpus: int = 1,
) -> None:
    """Do the steps of a round as Ray tasks, `cpus` cores each, and write what they made to `root` as they end.

    A worker that dies costs its task a new start (three at most). Raises `ModelError` without Ray, `InputError` for a config with
    files of this machine that workers could not read, and the first error of a step.
    """
    try:
        import ray
    except ImportError as error:
        raise ModelError("a study on a cluster needs Ray", do="pip install 'mechgate[ray]'") from error
    if local := [str(p) for p in (*config.gates, *([config.data] if config.data else []))]:
        raise InputError(
            "workers of a cluster cannot read files of this machine",
            got=local,
            do="train the study's own gates, or run it without ray",
        )
    if not ray.is_initialized():
        ray.init(address=address, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    task: Any = ray.remote(num_cpus=cpus, max_retries=_RETRIES)(_in_a_folder)
    sent = ray.put(_files(root))
    waiting = {task.remote(step, config, sent): step for step in steps}
    try:
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for one in done:
                step = waiting.pop(one)
                lines, made = ray.get(one)
                _write(root, made)
                for line in lines:
                    tell(f"{step.name}: {line}" if not line.startswith(step.name) else line)
            stopping()
    finally:
        for one in waiting:
            ray.cancel(one, force=True)


def _in_a_folder(step: Step, config: StudyConfig, sent: Files) -> tuple[list[str], Files]:
    """On a worker: the step's work in a new folder that holds `sent`; its lines, and the files that are new or changed."""
    with tempfile.TemporaryDirectory(prefix="mechgate-") as name:
        root = Path(name)
        _write(root, sent)
        lines = told(step, config, root)
        return lines, {path: data for path, data in _files(root, figures=True).items() if sent.get(path) != data}


def _files(root: Path, *, figures: bool = False) -> Files:
    """The bytes of a run folder's files by relative path."""
    folders = (*_SENT, "figures") if figures else _SENT
    found = [path for name in folders for path in sorted((root / name).rglob("*")) if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def _write(root: Path, files: Files) -> None:
    for name, data in files.items():
        target = (root / name).resolve()
        if not target.is_relative_to(root.resolve()):
            raise StorageError("a worker sent a file for another place", got=name)
        with atomic_path(target) as temporary:
            temporary.write_bytes(data)
