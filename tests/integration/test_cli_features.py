"""Laws of `mechgate sae train` and `mechgate features`: a whole way on a tiny model, and bad input as one paragraph."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechgate.data.sets import asked, prose
from mechgate.gates.gateset import GateSet
from mechgate.questions import sae_overlap  # noqa: F401  before its settings are replaced
from mechgate.representation import feature_tables
from mechgate.train import sae as sae_module

pytest.importorskip("sae_lens")
Run = Any  # the fixture `mechgate`


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chat_model: Callable[..., Any]) -> Path:
    """A folder with a tiny model that has room for the shipped texts, and gates of it."""
    w = tmp_path_factory.mktemp("world")
    model = chat_model(w / "model", max_position_embeddings=4096)
    gates = GateSet.identity(model)
    for layer in gates.layers:
        gates.gate(layer).bias.data.fill_(1.0)
    gates.save(w / "gates.safetensors")
    return w


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few prompts and texts to learn from, and few facts and draws."""
    monkeypatch.setattr(sae_module, "sae_prompts", lambda: [asked("Hi."), asked("Is tea hot?")])
    monkeypatch.setattr(sae_module, "prose", lambda: prose()[:1])
    fields = {"nulls": 1, "permutations": 99, "texts": 4}
    usual = feature_tables.FeatureSettings

    def few(**values: Any) -> Any:
        return usual(**{**fields, **values})

    monkeypatch.setattr("mechgate.representation.features.FeatureSettings", few)


def test_an_sae_is_trained_and_the_gates_features_are_judged_with_it(
    mechgate: Run, world: Path, small: None, reported: Any
) -> None:
    model = ["--model", world / "model", "--dtype", "float32"]
    options = ["--layer", "1", "--tokens", "1500", "--latents", "48", "-k", "3", "--epochs", "1", *model]
    done = mechgate("sae", "train", world / "saes", *options)
    assert done.code == 0, done.err
    assert "FVU" in done.out
    assert "reused" in mechgate("sae", "train", world / "saes", *options).err
    asked_for = ["--sae", world / "saes" / "layer-1-seed-0", "--facts", "32", "--folder", world / "run", *model]
    done = mechgate("features", world / "gates.safetensors", *asked_for)
    assert done.code == 0, done.err
    for name in ("sae_overlap.png", "sae_overlap.svg", "sae_overlap.json", "sae_overlap.html"):
        assert (world / "run" / name).stat().st_size > 100
    reported(world / "run" / "sae_overlap.json")
    assert "layer 1" in done.out
    found = json.loads(mechgate("features", world / "gates.safetensors", *asked_for, "--json").out)
    assert found["gates"] == ["gates"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["sae", "train", "@saes", "--layer", "x"], "whole numbers"),
        (["sae", "train", "@other", "--architecture", "relu"], "architecture"),
        (["features", "@gates.safetensors", "--sae", "@nowhere"], "no SAE there"),
        (["features", "@gates.safetensors", "--sae", "@model", "--facts", "8"], "at least 32 facts"),
        (["features", "@gates.safetensors", "--sae", "@model", "--position", "response"], "position"),
        (["features", "@gates.safetensors", "@gates.safetensors", "--sae", "@model"], "different names"),
    ],
)
def test_bad_input_is_one_paragraph(mechgate: Run, world: Path, small: None, options: list[str], says: str) -> None:
    named = [world / o.removeprefix("@") if o.startswith("@") else o for o in options]
    tokens = ["--tokens", "100"] if options[0] == "sae" else []
    done = mechgate(*named, *tokens, "--model", world / "model", "--dtype", "float32")
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err
