"""Laws of gates of some heads: all of them are the gates, none are the base, and what is left out is exactly 1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates
from mechgate.gates.subsets import gated_heads, head_units, keep_heads
from mechgate.testing import tiny_model

Shake = Callable[..., GateSet]
FORMS: list[dict[str, Any]] = [{}, {"rank": 2}, {"input": "static"}, {"granularity": "head"}, {"layers": [0, 2]}]


def logits(model: Any, gates: GateSet, tokens: torch.Tensor, strength: float) -> torch.Tensor:
    with torch.no_grad(), gates.attached(model, strength):
        return model(tokens)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("strength", [-1.0, 1.0])
def test_all_heads_are_the_gates_and_none_the_base_bit_for_bit(
    llama: Any, shaken: Shake, tokens: torch.Tensor, form: dict[str, Any], strength: float
) -> None:
    gates = shaken(GateSet.identity(llama, **form)).scaled(0.5)
    whole = logits(llama, gates, tokens, strength)
    assert torch.equal(logits(llama, keep_heads(gates, gated_heads(gates)), tokens, strength), whole)
    assert torch.equal(logits(llama, keep_heads(gates, []), tokens, strength), llama(tokens))
    assert not torch.equal(whole, llama(tokens))


@pytest.mark.parametrize("form", FORMS)
def test_kept_heads_have_their_gates_and_others_none(llama: Any, shaken: Shake, form: dict[str, Any]) -> None:
    gates = shaken(GateSet.identity(llama, **form))
    before = [p.clone() for p in gates.parameters()]
    kept = keep_heads(gates, [(0, 1), (2, 3), (2, 0)])
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    for layer, heads in ((0, [1]), (2, [0, 3])):
        own = head_units(gates, heads)
        one, other = kept.gate(layer).delta(x), gates.gate(layer).delta(x)
        assert torch.equal(one[:, own], other[:, own])
        assert not one[:, ~own].any()
    if 1 in gates.layers:
        assert not kept.gate(1).delta(x).any()
    assert kept.history["kept heads"] == [[0, 1], [2, 0], [2, 3]]
    assert all(torch.equal(a, b) for a, b in zip(before, gates.parameters(), strict=True))


def test_every_unit_belongs_to_one_head(bridge: Any) -> None:
    for granularity in ("element", "head"):
        gates = GateSet.identity(bridge, granularity)
        units = torch.stack([head_units(gates, [h]) for h in range(gates.shape.n_heads)])
        assert (units.sum(dim=0) == 1).all()
        assert head_units(gates, range(gates.shape.n_heads)).all()


def test_kept_heads_come_back_from_a_gate_file(llama: Any, shaken: Shake, tokens: torch.Tensor, tmp_path: Path) -> None:
    kept = keep_heads(shaken(GateSet.identity(llama)), [(0, 1), (2, 3)])
    again = load_gates(kept.save(tmp_path / "kept.safetensors"), llama)
    assert torch.equal(logits(llama, again, tokens, -1.0), logits(llama, kept, tokens, -1.0))
    assert again.history == kept.history


def test_heads_that_are_not_gated_cannot_be_kept() -> None:
    model = tiny_model()
    gates = GateSet.identity(model, layers=[1])
    for wrong in ((0, 0), (1, 4), (1, -1)):
        with pytest.raises(InputError, match="without gates"):
            keep_heads(gates, [wrong])
    with pytest.raises(InputError, match="head by head"):
        keep_heads(GateSet.identity(model, "layer"), [(0, 0)])


@pytest.mark.model
def test_on_the_default_model_all_heads_are_the_gates_and_none_the_base(default_model: Any, shaken: Shake) -> None:
    gates, tokens = shaken(GateSet.identity(default_model), size=0.3), torch.arange(5, 17)[None]
    whole, base = logits(default_model, gates, tokens, -1.0), logits(default_model, gates, tokens, 0.0)
    assert torch.equal(logits(default_model, keep_heads(gates, gated_heads(gates)), tokens, -1.0), whole)
    assert torch.equal(logits(default_model, keep_heads(gates, []), tokens, -1.0), base)
    assert not torch.equal(whole, base)
