"""Laws of null gates."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.nulls import FAMILIES, null_gates

KINDS = [dict(), dict(rank=3), dict(input="static"), dict(granularity="head"), dict(layers=[1])]


@pytest.fixture(params=KINDS, ids=str)
def gates(request: pytest.FixtureRequest, llama: Any, shaken: Callable[..., GateSet]) -> GateSet:
    """Learned-looking gates of several kinds."""
    return shaken(GateSet.identity(llama, **request.param))


def signs(gates: GateSet, null: GateSet) -> torch.Tensor:
    return torch.cat([null.gate(n).bias.detach() / gates.gate(n).bias.detach() for n in gates.layers])


def state(gates: GateSet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in gates.state_dict().items()}


def test_row_sign_keeps_the_size_of_every_gate_exactly_for_equal_inputs(gates: GateSet) -> None:
    null = null_gates(gates, family="row-sign", seed=0)
    for seed in range(3):
        x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(seed))
        for layer in gates.layers:
            learned, drawn = gates.gate(layer).delta(x), null.gate(layer).delta(x)
            assert torch.equal(learned.abs(), drawn.abs())
            assert learned.abs().max() > 0.1


def test_row_sign_flips_whole_units_at_random(gates: GateSet) -> None:
    null = null_gates(gates, family="row-sign", seed=0)
    flipped = signs(gates, null)
    assert set(flipped.tolist()) == {-1.0, 1.0}
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    learned = torch.cat([gates.gate(n).delta(x) for n in gates.layers], dim=-1)
    drawn = torch.cat([null.gate(n).delta(x) for n in gates.layers], dim=-1)
    assert torch.equal(drawn, learned * flipped)


def test_signs_are_fair_and_independent_between_seeds(llama: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(llama))
    draws = torch.stack([signs(gates, null_gates(gates, family="row-sign", seed=s)) for s in range(40)])
    assert draws.mean().abs() < 4 / draws.numel() ** 0.5
    correlation = draws @ draws.T / draws.shape[1]
    assert (correlation - torch.eye(40)).abs().max() < 5 / draws.shape[1] ** 0.5


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_draw_depends_on_its_seed_only(llama: Any, shaken: Callable[..., GateSet], family: str) -> None:
    gates = shaken(GateSet.identity(llama))
    torch.manual_seed(1)
    first = state(null_gates(gates, family=family, seed=3))
    torch.manual_seed(2)
    again = state(null_gates(copy.deepcopy(gates), family=family, seed=3))
    other = state(null_gates(gates, family=family, seed=4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_original_is_left_as_it_is(gates: GateSet) -> None:
    before, history = state(gates), copy.deepcopy(gates.history)
    null = null_gates(gates, family="row-sign", seed=0)
    with torch.no_grad():
        for parameter in null.parameters():
            parameter.zero_()
    after = gates.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in gates.parameters())
    assert gates.history == history


def test_a_null_is_frozen_and_says_what_it_is(gates: GateSet) -> None:
    gates.history = {"config": {"objective": "nll"}}
    null = null_gates(gates.negated(), family="row-sign", seed=5)
    assert not any(parameter.requires_grad for parameter in null.parameters())
    assert null.history == {"null": "row-sign null, seed 5", "of": {"config": {"objective": "nll"}}}
    assert "row-sign null, seed 5" in repr(null)
    assert null.scale == -1.0
    assert null.layers == gates.layers


def test_the_papers_inversion_is_the_all_minus_member(llama: Any, tokens: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(llama, "layer", input="static"))
    # Three units have eight members; one of the first hundred draws is the all-minus one.
    nulls = (null_gates(gates, family="row-sign", seed=seed) for seed in range(100))
    minus = next(null for null in nulls if (signs(gates, null) == -1).all())
    with torch.no_grad():
        with minus.attached(llama):
            drawn = llama(tokens)
        with gates.negated().attached(llama):
            assert torch.equal(llama(tokens), drawn)


@pytest.mark.parametrize(
    ("family", "hint"), [("row-sgin", "did you mean 'row-sign'"), ("zzz", "row-sign"), (None, "row-sign")]
)
def test_an_unknown_family_is_refused_naming_those_there_are(gates: GateSet, family: Any, hint: str) -> None:
    with pytest.raises(InputError, match=rf"family is not one of.*{hint}"):
        null_gates(gates, family=family, seed=0)
