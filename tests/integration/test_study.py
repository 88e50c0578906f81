"""Laws of a study: nothing is lost or done twice, whenever it is killed; folders that hold something else are left alone."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from mechgate.errors import InputError, StorageError
from mechgate.report.results import read_result
from mechgate.study import StudyConfig, load_config, run_study
from mechgate.study.config import checked
from mechgate.study.run import Interrupted

KILLS = int(os.environ.get("MECHGATE_KILLS", "4"))
SMALL: dict[str, Any] = dict(
    dtype="float32",
    seeds=(0,),
    examples=24,
    epochs=1,
    controls=("sign-off",),
    hosts=(),
    questions=("token-roles", "patching"),
    settings={"token-roles": {"facts": 4}, "patching": {"facts": 4, "draws": 99}},
)


def small(model_folder: Path, **values: Any) -> StudyConfig:
    return checked({**SMALL, "model": str(model_folder), **values})


def silent(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def finished(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole study that nobody disturbed."""
    folder = tmp_path_factory.mktemp("study") / "run"
    run_study(small(model_folder), folder, say=silent)
    return folder


def outcome(folder: Path) -> dict[str, Any]:
    """What a study found: gates, numbers and tables, without times."""
    found: dict[str, Any] = {path.name: load_file(path) for path in sorted((folder / "gates").glob("*.safetensors"))}
    for path in sorted((folder / "results").glob("*.json")):
        found[path.name] = {k: v for k, v in read_result(path)["numbers"].items() if k != "seconds"}
    for path in sorted((folder / "results").glob("*.parquet")):
        found[path.name] = pd.read_parquet(path)
    return found


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        if name.endswith(".parquet"):
            pd.testing.assert_frame_equal(value, other[name])
        elif name.endswith(".safetensors"):
            assert all(np.array_equal(value[key], other[name][key]) for key in value)
        else:
            assert json.dumps(value, sort_keys=True) == json.dumps(other[name], sort_keys=True), name


def test_a_run_folder_holds_everything_that_is_promised(finished: Path, model_folder: Path) -> None:
    for name in ("config.yaml", "log.txt", "provenance.json", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    for question in SMALL["questions"]:
        assert read_result(finished / "results" / f"{question}.json")["question"]
        for ending in (".png", ".svg"):
            assert (finished / "figures" / f"{question}{ending}").is_file()
    assert len(pd.read_parquet(finished / "results" / "token-roles.parquet")) > 0
    assert load_config(finished / "config.yaml") == small(model_folder)
    assert not list(finished.rglob("*.part"))
    assert not list(finished.rglob("*.checkpoint"))


def test_nothing_is_done_twice(finished: Path, model_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.[jscn][sapv]*") if "log" not in path.name}
    lines: list[str] = []
    run_study(small(model_folder), finished, say=lines.append)
    assert not [line for line in lines if line.endswith("...")]
    again = {path: path.stat().st_mtime_ns for path in before}
    # The report is written again, with its tidy tables beside the figures.
    changed = {path for path in before if before[path] != again[path] and path.parent.name != "figures"}
    assert changed <= {finished / "provenance.json"}


@pytest.mark.parametrize("kill", range(KILLS))
def test_killed_at_any_moment_the_same_call_ends_in_the_same_results(
    kill: int, finished: Path, model_folder: Path, tmp_path: Path
) -> None:
    config, folder = small(model_folder), tmp_path / "run"
    context = multiprocessing.get_context("fork")  # fresh imports would cost more than the study itself
    stream = random.Random(kill)
    deaths = 0
    while True:
        process = context.Process(target=run_study, args=(config, folder), kwargs={"say": silent})
        process.start()
        process.join(stream.uniform(0.1, 1.5 * 1.3**deaths))  # ever later: a slow machine gets there too
        if not process.is_alive():
            break
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        deaths += 1
    assert process.exitcode == 0
    assert deaths
    assert_same(outcome(folder), outcome(finished))


def test_an_interrupt_ends_the_step_and_keeps_it(finished: Path, model_folder: Path, tmp_path: Path) -> None:
    folder, lines, before = tmp_path / "run", [], signal.getsignal(signal.SIGINT)

    def say(text: str) -> None:
        lines.append(text)
        if text.startswith("roles,"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with pytest.raises(Interrupted):
        run_study(small(model_folder), folder, say=say)
    assert lines[-1].startswith("stopped; the same command goes on")
    assert signal.getsignal(signal.SIGINT) is before
    run_study(small(model_folder), folder, say=silent)
    assert_same(outcome(folder), outcome(finished))


def test_processes_find_what_one_process_finds(finished: Path, model_folder: Path, tmp_path: Path) -> None:
    run_study(small(model_folder), tmp_path / "run", executor="processes", workers=2, say=silent)
    assert_same(outcome(tmp_path / "run"), outcome(finished))


def test_two_runs_do_not_share_a_folder(model_folder: Path, tmp_path: Path) -> None:
    found: list[StorageError] = []

    def say(_: str) -> None:
        if not found:
            with pytest.raises(StorageError, match=rf"another run has this folder.*{os.getpid()}") as caught:
                run_study(small(model_folder), tmp_path / "run", say=silent)
            found.append(caught.value)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(small(model_folder), tmp_path / "run", say=say)
    assert found


def test_more_questions_may_be_asked_in_a_folder_but_no_other_study(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_study(small(model_folder, questions=("token-roles",)), folder, say=silent)
    with pytest.raises(StorageError, match=r"another study.*examples, lr"):
        run_study(small(model_folder, examples=16, lr=1e-4), folder, say=silent)
    lines: list[str] = []
    run_study(small(model_folder), folder, say=lines.append)
    assert any(line.startswith("token-roles: reused") for line in lines)
    assert (folder / "results" / "patching.json").is_file()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"notes.txt": "mine"}, "something else than a study"),
        ({"config.yaml": "a: ["}, "damaged"),
        ({"config.yaml": "model: other\n"}, "another study"),
    ],
)
def test_a_folder_that_holds_something_else_is_left_alone(
    made: dict[str, str], says: str, model_folder: Path, tmp_path: Path
) -> None:
    for name, text in made.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises((StorageError, ValueError), match=says):
        run_study(small(model_folder), tmp_path, say=silent)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == made


def test_a_file_in_place_of_the_folder_and_a_wrong_executor_are_errors(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="is a file"):
        run_study(small(model_folder), tmp_path / "run", say=silent)
    with pytest.raises(InputError, match="executor"):
        run_study(small(model_folder), tmp_path / "new", executor="slurm", say=silent)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "new").exists()


ON_A_CLUSTER = """
import os, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from mechgate.study import load_config, run_study

size = dict(num_cpus=1, object_store_memory=200_000_000, include_dashboard=False)
cluster = Cluster(initialize_head=True, head_node_args=size)
worker = cluster.add_node(**size)
cluster.wait_for_nodes()
killed = []

def say(line):
    if not killed:  # the first step is done: whatever the other node works at is lost
        killed.append(worker)
        cluster.remove_node(worker, allow_graceful=False)
        cluster.add_node(**size)

run_study(load_config(sys.argv[1]), sys.argv[2], executor="ray", address=cluster.address, say=lambda s: "sign" in s and say(s))
assert killed
ray.shutdown()
cluster.shutdown()
"""


def test_a_cluster_finds_the_same_though_a_worker_dies(finished: Path, tmp_path: Path) -> None:
    # Ray is kept out of this process, and out of the user's home.
    place = os.environ | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    asked = [sys.executable, "-c", ON_A_CLUSTER, str(finished / "config.yaml"), str(tmp_path / "run")]
    done = subprocess.run(asked, env=place, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(outcome(tmp_path / "run"), outcome(finished))


def test_a_cluster_is_not_sent_what_its_workers_cannot_read(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text("{}", encoding="utf-8")
    config = small(model_folder, data=str(tmp_path / "chats.jsonl"))
    with pytest.raises(InputError, match=r"files of this machine.*chats\.jsonl"):
        run_study(config, tmp_path / "run", executor="ray", say=silent)
