"""Laws of `mechgate personas`: a whole way on a tiny model, and bad input as one paragraph."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechgate.gates.gateset import GateSet
from mechgate.questions import persona_alignment  # noqa: F401  before its settings are replaced
from mechgate.representation import persona_tables

Run = Any  # the fixture `mechgate`


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chat_model: Callable[..., Any]) -> Path:
    """A folder with a tiny model that has room for the shipped texts, and gates of it."""
    w = tmp_path_factory.mktemp("world")
    model = chat_model(w / "model", max_position_embeddings=4096)
    gates = GateSet.identity(model, input="static")
    for layer in gates.layers:
        gates.gate(layer).bias.data.fill_(1.0)
    gates.save(w / "gates.safetensors")
    return w


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few draws and questions."""
    usual = persona_tables.PersonaSettings
    few: dict[str, Any] = {"nulls": 1, "permutations": 99, "steer_questions": 2}
    monkeypatch.setattr(persona_tables, "PersonaSettings", lambda **values: usual(**{**few, **values}))


def test_gates_are_compared_with_vectors_and_everything_is_kept(
    mechgate: Run, world: Path, small: None, reported: Any
) -> None:
    options = ["--model", world / "model", "--dtype", "float32", "--folder", world / "run", "--traits", "humour"]
    options += ["--questions", "3", "--instructions", "2", "--tokens", "4", "--facts", "32"]
    done = mechgate("personas", world / "gates.safetensors", *options)
    assert done.code == 0, done.err
    for name in ("persona_alignment.png", "persona_alignment.svg", "vectors/humour_response_avg_diff.pt"):
        assert (world / "run" / name).stat().st_size > 100
    reported(world / "run" / "persona_alignment.json")
    assert "gates writes humour" in done.out
    assert "reused" in mechgate("personas", world / "gates.safetensors", *options).err
    found = json.loads(mechgate("personas", world / "gates.safetensors", *options, "--json").out)
    assert found["gates"] == ["gates"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--traits", "pride"], "traits"),
        (["--position", "first"], "position"),
        (["--facts", "8"], "facts is out of range"),
        (["--questions", "40"], "questions is out of range"),
    ],
)
def test_bad_input_is_one_paragraph(mechgate: Run, world: Path, options: list[str], said: str) -> None:
    done = mechgate("personas", world / "gates.safetensors", "--model", world / "model", *options)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
