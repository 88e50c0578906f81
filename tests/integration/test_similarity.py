"""`mechgate similarity` and its script on a tiny model: whole runs, the same numbers, nothing measured twice."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechgate.gates.gateset import GateSet
from mechgate.model.loading import load_model

SCRIPT = Path(__file__).parents[2] / "analyses" / "representational_similarity.py"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, chat_model: Callable[..., Any]) -> Path:
    """A tiny chat model with room for the neutral texts that doses are matched on."""
    folder = tmp_path_factory.mktemp("long") / "model"
    chat_model(folder, max_position_embeddings=1024)
    return folder


@pytest.fixture(scope="module")
def gate_files(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of gates that do something, and a control."""
    import torch

    folder, model, made = tmp_path_factory.mktemp("gates"), load_model(model_folder), []
    for seed, task in enumerate(("sycophancy", "sycophancy", "sign-off")):
        gates = GateSet.identity(model, "head")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in gates.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        gates.history = {"task": task}
        made.append(gates.save(folder / f"{task}-{seed}.safetensors"))
    return made


def test_command_and_script_give_the_same_and_reuse_each_others_work(
    mechgate: Any,
    model_folder: Path,
    gate_files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    reported: Any,
) -> None:
    first, second, control = gate_files
    folder, figures = tmp_path / "run", tmp_path / "figures"
    done = mechgate(
        *("similarity", first, second, "--control", control, "--model", model_folder, "--folder", folder),
        *("--strengths", "-1", "--positions", "last", "--facts", 12, "--questions", 0, "--folds", 2),
        *("--permutations", 99, "--nulls", "static-mean"),
    )
    assert done.code == 0, done.err
    assert "claims at last" in done.out
    assert (folder / "similarity-claims-last-s-1.png").is_file()
    assert (folder / "similarity-claims-last-rdms.svg").is_file()
    numbers = json.loads((folder / "similarity.json").read_text())["numbers"]
    reported(folder / "similarity.json")
    assert numbers["tasks"] == {"sign-off-2": "sign-off"}
    assert len(numbers["contrasts"][0]["strengths"][0]["changes"]["rows"]["seeds"]) == 2

    asked = ["--gates", first, second, "--others", control, "--model", model_folder, "--strengths", "-1"]
    asked += ["--positions", "last", "--facts", 12, "--questions", 0, "--folds", 2, "--permutations", 99]
    asked += ["--null-families", "static-mean", "--folder", folder, "--figures", figures]
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, asked)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    out = capfd.readouterr().out
    assert " ..." not in out  # nothing was measured again
    again = json.loads((figures / "similarity.json").read_text())["numbers"]
    assert again["contrasts"] == numbers["contrasts"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--positions", "first"), "token roles"),
        (("--strengths", "0"), "other than 0"),
        (("--layers", "one"), "whole numbers"),
        (("--facts", "3"), "evenly over domains"),
        (("--nulls", "nothing"), "unknown null families"),
    ],
)
def test_bad_input_is_one_paragraph(
    mechgate: Any, model_folder: Path, gate_files: list[Path], tmp_path: Path, arguments: Any, message: str
) -> None:
    done = mechgate("similarity", gate_files[0], "--model", model_folder, "--folder", tmp_path / "run", *arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
