"""Laws of `mechgate controls`: a folder of families that is trained once, in the words of the command line."""

from pathlib import Path
from typing import Any

import pytest

from mechgate.gates.storage import read_header
from mechgate.train.controls import CONTROL_TASKS, TRAINABLE
from mechgate.train.variants import VARIANTS

Run = Any  # the fixture `mechgate`
SHORT = ["--dtype", "float32", "--examples", "40", "--epochs", "1"]


def test_a_family_is_trained_once_and_its_files_are_what_is_printed(
    mechgate: Run, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "controls"
    command = ["controls", "train", folder, "--model", model_folder, *SHORT]
    command += ["--tasks", "sycophancy, genuine-agreement", "--seeds", "0,3"]
    done = mechgate(*command)
    assert done.code == 0, done.err
    files = [Path(line) for line in done.out.split()]
    assert sorted(files) == sorted(folder.iterdir())
    learned = [read_header(f)["history"] for f in files]
    assert [(h["task"], h["config"]["seed"]) for h in learned] == [
        (task, seed) for seed in (0, 3) for task in ("sycophancy", "genuine-agreement")
    ]
    before = {f: f.stat().st_mtime_ns for f in files}
    again = mechgate(*command)
    assert again.out == done.out
    assert again.err.count("reused") == 4
    assert {f: f.stat().st_mtime_ns for f in folder.iterdir()} == before


def test_every_trainable_task_is_listed_and_the_default_ones_are_marked(mechgate: Run) -> None:
    lines = [line for line in mechgate("controls", "tasks").out.splitlines() if any(t in line for t in TRAINABLE)]
    assert [name for name in TRAINABLE if not any(name in line for line in lines)] == []
    assert sum("yes" in line for line in lines) == len(CONTROL_TASKS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tasks", "sycophansy"], "did you mean 'sycophancy'"),
        (["--seeds", "0,x"], "seeds must be whole numbers"),
        (["--seeds", "1,1"], "named twice"),
        (["--domain", "cooking"], "domain"),
        (["--examples", "4000"], "fewer examples than that"),
    ],
)
def test_a_bad_command_is_one_paragraph_and_writes_nothing(
    mechgate: Run, model_folder: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    folder = tmp_path / "controls"
    done = mechgate("controls", "train", folder, "--model", model_folder, *options)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert says in done.err
    assert not folder.exists()


def test_variants_are_trained_once_and_listed(mechgate: Run, model_folder: Path, tmp_path: Path) -> None:
    asked = ["controls", "variants", tmp_path / "gates", "--names", "imitate,late", "--seeds", "0", *SHORT]
    first, again = (mechgate(*asked, "--model", model_folder) for _ in range(2))
    assert first.code == 0, first.err
    assert [Path(line).name.split("-0-")[0] for line in first.out.split()] == ["sycophancy", "variant-late"]
    assert again.out == first.out
    assert again.err.count("reused") == 2
    listed = mechgate("controls", "tasks").out
    assert [name for name in VARIANTS if name not in listed] == []
