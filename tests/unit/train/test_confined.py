"""Laws of training that is confined to heads: nothing else moves by a bit, and these do."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.data.pairs import Example
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.model.loading import load_model
from mechgate.train.confined import confined_gates
from mechgate.train.gates import train_gates
from mechgate.train.hosts import LoraSettings, train_lora_host
from mechgate.train.loop import TrainConfig

HEADS = ((0, 1), (2, 0), (2, 3))
EXAMPLES = [
    Example(messages=({"role": "user", "content": f"Is {i} odd?"},), response="You're right.") for i in range(8)
]


@pytest.mark.parametrize(
    "form",
    [{}, {"granularity": "head"}, {"input": "static"}, {"layers": [0, 2]}],
    ids=["element", "head", "static", "layers"],
)
def test_only_the_named_heads_gates_learn(chat: Any, form: dict[str, Any]) -> None:
    gates = GateSet.identity(chat, **form)
    with confined_gates(gates, HEADS):
        train_gates(chat, gates, EXAMPLES, TrainConfig(seed=0, epochs=1, lr=0.01))
    for layer in gates.layers:
        for rows in gates.gate(layer).rows():
            heads = rows.detach().unflatten(0, (4, -1)).flatten(1)
            moved = {int(h) for h in heads.abs().amax(dim=1).nonzero()[:, 0]}
            assert moved == {h for k, h in HEADS if k == layer}
    assert all(parameter._backward_hooks in (None, {}) for parameter in gates.parameters())


def test_gates_that_heads_share_are_refused(chat: Any) -> None:
    forms: list[dict[str, Any]] = [{"granularity": "layer"}, {"rank": 1}]
    for form in forms:
        with pytest.raises(InputError, match="confined"), confined_gates(GateSet.identity(chat, **form), HEADS):
            pass
    with pytest.raises(InputError, match="without gates"), confined_gates(GateSet.identity(chat, layers=[0]), HEADS):
        pass


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Any) -> str:
    """A tiny chat model's folder."""
    folder = tmp_path_factory.mktemp("source") / "model"
    tiny_chat_model(folder)
    return str(folder)


def test_an_adapter_confined_to_heads_leaves_all_other_slices_bit_for_bit(source: str, tmp_path: Path) -> None:
    lora = LoraSettings(rank=2, alpha=4, targets=("q_proj", "o_proj"), heads=HEADS)
    config = TrainConfig(seed=0, epochs=2, lr=0.02)
    train_lora_host(source, EXAMPLES, config, tmp_path / "host", lora=lora, dtype="float32", device="cpu")
    host = load_model(source, adapter=tmp_path / "host", dtype="float32", device="cpu")
    weights = {
        n.replace("_original_component.", ""): p for n, p in host.original_model.named_parameters() if "lora_" in n
    }
    for layer in range(3):
        own = {h for k, h in HEADS if k == layer}
        for name, axis in (("q_proj", 0), ("o_proj", 1)):
            a, b = (weights[f"model.layers.{layer}.self_attn.{name}.lora_{f}.default.weight"] for f in "AB")
            change = (b @ a).detach().movedim(axis, 0).unflatten(0, (4, -1)).flatten(1)
            assert {int(h) for h in change.abs().amax(dim=1).nonzero()[:, 0]} == own


@pytest.mark.parametrize(("targets", "heads"), [(("q_proj", "v_proj"), HEADS), (("q_proj", "o_proj"), ((3, 0),))])
def test_other_projections_and_heads_that_are_not_there_are_refused(
    source: str, tmp_path: Path, targets: tuple[str, ...], heads: tuple[tuple[int, int], ...]
) -> None:
    lora = LoraSettings(rank=2, alpha=4, targets=targets, heads=heads)
    with pytest.raises(InputError):
        train_lora_host(
            source, EXAMPLES, TrainConfig(seed=0), tmp_path / "host", lora=lora, dtype="float32", device="cpu"
        )


def test_an_adapter_without_heads_has_the_settings_it_always_had() -> None:
    assert set(LoraSettings().to_json()) == {"rank", "alpha", "rslora", "targets"}
    assert torch.equal(torch.tensor(LoraSettings(heads=HEADS).to_json()["heads"]), torch.tensor(HEADS))
