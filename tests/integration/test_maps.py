"""The scripts that draw maps, on a tiny model: whole runs, and nothing measured twice."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from mechgate.gates.gateset import GateSet
from mechgate.model.loading import load_model
from mechgate.report.results import read_result
from mechgate.train.controls import train_family

SCRIPTS = Path(__file__).parents[2] / "analyses"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`run("transfer", "--seeds", 0)`: the script in this process; gives what it printed."""

    def call(name: str, *arguments: Any) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


def numbers_of(folder: Path, name: str) -> dict[str, Any]:
    for ending in (".png", ".svg"):
        assert (folder / f"{name}{ending}").is_file()
    return read_result(folder / f"{name}.json")["numbers"]


def test_which_heads_runs_from_gate_files_to_figure(run: Any, model_folder: Path, tmp_path: Path) -> None:
    model = load_model(model_folder)
    made = train_family(
        model, tmp_path, tasks=("sycophancy", "sign-off"), seeds=(0, 1), n=24, epochs=1, say=lambda _: None
    )
    gates, others = ([m.path for m in made if m.task == task] for task in ("sycophancy", "sign-off"))
    asked = ["--gates", *gates, "--others", *others, "--model", model_folder, "--facts", 4, "--phrasings", 1]
    asked += ["--nodes", 1, "--folder", tmp_path / "run", "--figures", tmp_path / "f"]
    run("which_heads", *asked)
    numbers = numbers_of(tmp_path / "f", "which_heads")
    assert (numbers["n"], len(numbers["seeds"])) == (4, 2)
    assert set(numbers["others"]) == {"row-sign", "sign-off"}
    assert numbers["maps"]["attribution"]["between seeds"]["pairs"] == 1
    again = run("which_heads", *asked)
    assert again.count("reused") == 8
    assert numbers_of(tmp_path / "f", "which_heads") == numbers


def test_transfer_trains_measures_and_draws_and_reuses_all_of_it(run: Any, model_folder: Path, tmp_path: Path) -> None:
    asked = ["--domains", "medical", "finance", "--seeds", 0, 1, "--model", model_folder, "--examples", 16]
    asked += ["--epochs", 1, "--phrasings", 1, "--gates", tmp_path / "gates", "--folder", tmp_path / "run"]
    asked += ["--figures", tmp_path / "f"]
    first = run("transfer", *asked)
    numbers = numbers_of(tmp_path / "f", "transfer")
    assert len(numbers["cells"]) == 2 * 2 * 2 * 2
    assert len(list((tmp_path / "gates").glob("*.safetensors"))) == 4
    assert "false_claim, s = -1: own" in first
    again = run("transfer", *asked)
    assert again.count("reused") == 4 + 1 + 8
    assert numbers_of(tmp_path / "f", "transfer") == numbers


def test_identity_gates_have_an_empty_atlas(run: Any, model_folder: Path, tmp_path: Path) -> None:
    GateSet.identity(load_model(model_folder)).save(tmp_path / "none.safetensors")
    run(
        *("which_heads", "--gates", tmp_path / "none.safetensors", "--model", model_folder, "--facts", 3),
        *("--phrasings", 1, "--nodes", 1, "--null-draws", 0, "--folder", tmp_path, "--figures", tmp_path / "f"),
    )
    maps = numbers_of(tmp_path / "f", "which_heads")["maps"]
    assert all(sum(map(sum, one["values"])) == 0 for one in maps.values())
