"""Laws of `mechgate heads` and its script: a whole way on a tiny model, and bad input as one paragraph."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechgate.causality import heads as module
from mechgate.gates.gateset import GateSet
from mechgate.questions import minimal_heads  # noqa: F401  before its settings are replaced

SCRIPT = Path(__file__).parents[2] / "analyses" / "minimal_heads.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chat_model: Callable[..., Any]) -> Path:
    """A folder with a tiny model and gates of it."""
    w = tmp_path_factory.mktemp("world")
    gates = GateSet.identity(chat_model(w / "model", max_position_embeddings=2048))
    for layer in gates.layers:
        bias = gates.gate(layer).bias.data
        bias.copy_(bias.new_tensor(range(len(bias))).sin() * 4)
    gates.save(w / "gates.safetensors")
    return w


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = module.HeadSettings
    few = {"dev_facts": 2, "draws": 99, "random_orders": 1, "least": 1e-6}
    monkeypatch.setattr(module, "HeadSettings", lambda **values: usual(**{**values, **few}))


@pytest.mark.usefixtures("little")
def test_heads_are_measured_drawn_and_told_by_command_and_script(
    mechgate: Any, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], reported: Any
) -> None:
    asked = [world / "gates.safetensors", "-s", "1", "--facts", "4", "--exact", "19", "--knock-in"]
    asked += ["--model", world / "model", "--dtype", "float32", "--folder", world / "run"]
    done = mechgate("heads", *asked)
    assert done.code == 0, done.err
    assert "gates, s = +1:" in done.out
    assert "paths: direct" in done.out
    for name in ("minimal_heads-gates.png", "minimal_heads-gates.svg"):
        assert (world / "run" / name).stat().st_size > 1000
    numbers = json.loads(mechgate("heads", *asked, "--json").out)
    given = ["--gates", world / "gates.safetensors", "--strengths", 1, "--facts", 4, "--exact", 19, "--knock-in"]
    given += ["--model", world / "model", "--folder", world / "run", "--figures", world / "figures"]
    monkeypatch.setattr(sys, "argv", ["minimal_heads.py", *map(str, given)])
    capfd.readouterr()
    runpy.run_path(str(SCRIPT), run_name="__main__")
    out = capfd.readouterr().out
    assert ("reused" in out, " ...\n" in out) == (True, False)  # the same tables
    written = json.loads((world / "figures" / "minimal_heads.json").read_text(encoding="utf-8"))
    assert written["numbers"] == numbers
    reported(world / "figures" / "minimal_heads.json")
    assert (world / "figures" / "minimal_heads-gates.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["@gates.safetensors", "--facts", "3"], "at least 4"),
        (["@gates.safetensors", "--exact", "9"], "at least 4 and 19"),
        (["@gates.safetensors", "-s", "often"], "finite number"),
        (["@gates.safetensors", "@gates.safetensors"], "different names"),
        (["@nowhere.safetensors"], "nowhere.safetensors"),
        (["@gates.safetensors", "--facts", "500"], "as many facts"),
    ],
)
def test_bad_input_is_one_paragraph(mechgate: Any, world: Path, options: list[str], says: str) -> None:
    named = [world / o.removeprefix("@") if o.startswith("@") else o for o in options]
    done = mechgate("heads", *named, "--model", world / "model", "--dtype", "float32", "--folder", world / "other")
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert says in done.err
