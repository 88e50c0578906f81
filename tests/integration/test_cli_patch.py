"""Laws of `mechgate patch`: a whole way on a tiny model, and bad input as one paragraph."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechgate.causality import maps
from mechgate.gates.gateset import GateSet
from mechgate.questions import patching  # noqa: F401  before its settings are replaced


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chat_model: Callable[..., Any]) -> Path:
    """A folder with a tiny model and gates of it."""
    w = tmp_path_factory.mktemp("world")
    model = chat_model(w / "model", max_position_embeddings=2048)
    gates = GateSet.identity(model)
    for layer in gates.layers:
        bias = gates.gate(layer).bias.data
        bias.copy_(bias.new_tensor(range(len(bias))) / len(bias))
    gates.save(w / "gates.safetensors")
    return w


def test_heads_are_patched_drawn_and_told(
    mechgate: Any, world: Path, monkeypatch: pytest.MonkeyPatch, reported: Any
) -> None:
    usual = maps.CausalSettings
    monkeypatch.setattr(maps, "CausalSettings", lambda **values: usual(**{**values, "draws": 99}))
    asked = [world / "gates.safetensors", "--facts", "4", "--model", world / "model", "--dtype", "float32"]
    done = mechgate("patch", *asked, "--folder", world / "run")
    assert done.code == 0, done.err
    assert "true into false: runs differ by" in done.out
    assert "Spearman" in done.out
    for name in ("patching.png", "patching.svg", "patching.json"):
        assert (world / "run" / name).stat().st_size > 1000
    reported(world / "run" / "patching.json")
    assert json.loads(mechgate("patch", *asked, "--folder", world / "run", "--json").out)["facts"] == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["@gates.safetensors", "--facts", "3"], "at least 4 facts"),
        (["@gates.safetensors", "@gates.safetensors"], "different names"),
        (["@nowhere.safetensors"], "nowhere.safetensors"),
        (["@gates.safetensors", "--facts", "121"], "equally many tokens"),
    ],
)
def test_bad_input_is_one_paragraph(mechgate: Any, world: Path, options: list[str], says: str) -> None:
    named = [world / o.removeprefix("@") if o.startswith("@") else o for o in options]
    done = mechgate("patch", *named, "--model", world / "model", "--dtype", "float32", "--folder", world / "other")
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert says in done.err
