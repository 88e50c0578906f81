"""Laws of gate sets as objects: what they hold, how views share it, what is refused."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mechgate.errors import InputError, ModelError
from mechgate.gates.gate import GRANULARITIES, n_units
from mechgate.gates.gateset import GateSet
from mechgate.model.loading import fingerprint
from mechgate.model.sites import Site, shape_of
from mechgate.testing import tiny_model

KINDS = [dict(), dict(rank=1), dict(input="static"), dict(layers=[2, 0])]
ALL_KINDS = [dict(granularity=granularity, **kind) for granularity, kind in itertools.product(GRANULARITIES, KINDS)]


@pytest.mark.parametrize("kind", ALL_KINDS, ids=str)
def test_the_parameter_count_follows_the_formula(llama: Any, kind: dict[str, Any]) -> None:
    gates = GateSet.identity(llama, **kind)
    units, d_model, rank = n_units(shape_of(llama), kind["granularity"]), 32, kind.get("rank")
    weights = units * d_model if rank is None else rank * (units + d_model)
    each = units + (0 if kind.get("input") == "static" else weights)
    assert gates.n_parameters == each * len(kind.get("layers", range(3)))
    assert gates.n_parameters == sum(p.numel() for p in gates.parameters() if p.requires_grad)
    assert {p.dtype for p in gates.parameters()} == {torch.float32}


def test_layers_and_sites_are_those_asked_for_in_order(llama: Any) -> None:
    gates = GateSet.identity(llama, layers=[2, 0])
    assert gates.layers == (0, 2)
    assert gates.sites == (Site(0), Site(2))
    assert GateSet.identity(llama).layers == (0, 1, 2)


def test_a_layer_without_a_gate_is_named(llama: Any) -> None:
    gates = GateSet.identity(llama, layers=[0, 2])
    assert gates.gate(2) is gates.gates["2"]
    with pytest.raises(InputError, match=r"has no gate.*Got: 1.*0, 2"):
        gates.gate(1)


def test_the_random_start_of_low_rank_gates_depends_on_the_seed_only(llama: Any) -> None:
    torch.manual_seed(1)
    first = GateSet.identity(llama, rank=2, seed=7).state_dict()
    torch.manual_seed(2)
    again = GateSet.identity(llama, rank=2, seed=7).state_dict()
    other = GateSet.identity(llama, rank=2, seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["gates.0.down"], other["gates.0.down"])
    assert not torch.equal(first["gates.0.down"], first["gates.1.down"])


def test_gates_know_the_model_they_were_made_for(llama: Any) -> None:
    made_for = GateSet.identity(llama).made_for
    assert made_for["fingerprint"] == fingerprint(llama)
    assert made_for["architecture"] == "LlamaForCausalLM"


def test_views_share_parameters_and_multiply_scales(llama: Any) -> None:
    gates = GateSet.identity(llama)
    view = gates.scaled(2).negated().scaled(0.5)
    assert view.scale == -1.0
    assert gates.scale == 1.0
    for mine, theirs in zip(gates.parameters(), view.parameters(), strict=True):
        assert mine is theirs
    with torch.no_grad():
        gates.gate(1).bias.fill_(3.0)
    assert (view.gate(1).bias == 3.0).all()
    assert view.n_parameters == gates.n_parameters
    assert (view.layers, view.granularity, view.input, view.made_for) == (
        gates.layers,
        gates.granularity,
        gates.input,
        gates.made_for,
    )


def test_negating_twice_is_no_change(llama: Any) -> None:
    assert GateSet.identity(llama).negated().negated().scale == 1.0


def test_a_deep_copy_shares_nothing(llama: Any) -> None:
    view = GateSet.identity(llama).negated()
    other = copy.deepcopy(view)
    with torch.no_grad():
        other.gate(0).bias.fill_(1.0)
    assert (view.gate(0).bias == 0).all()
    assert other.scale == -1.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(granularity="heads"), r"granularity.*'heads'.*element, head, layer.*did you mean 'head'"),
        (dict(granularity=None), r"granularity.*None"),
        (dict(input="lin"), r"input.*'lin'.*linear, static"),
        (dict(rank=0), r"rank cannot be used.*rank=0.*1 to 32"),
        (dict(rank=33), r"rank=33.*1 to 32"),
        (dict(rank=2, granularity="layer"), r"rank=2.*1 to 1 "),
        (dict(rank=5, granularity="head"), r"rank=5.*1 to 4"),
        (dict(rank=1.5), r"rank=1\.5"),
        (dict(rank=True), r"rank=True"),
        (dict(rank="2"), r"rank=2"),
        (dict(rank=2, input="static"), r"rank=2, input=static.*input='linear'"),
        (dict(layers=[3]), r"layers.*0 to 2"),
        (dict(layers=[]), r"layers.*at least one"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_the_model_are_refused(llama: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        GateSet.identity(llama, **options)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (dict(num_hidden_layers=2), "n_layers 3 against 2"),
        (dict(head_dim=8), "d_head 16 against 8"),
        (dict(hidden_size=16), "d_model 32 against 16"),
        (dict(num_attention_heads=2), "n_heads 4 against 2"),
        (dict(num_attention_heads=2, head_dim=32), "n_heads 4 against 2; d_head 16 against 32"),
    ],
    ids=str,
)
def test_a_model_of_another_shape_is_refused_saying_what_differs(
    llama: Any, overrides: dict[str, int], words: str
) -> None:
    gates, other = GateSet.identity(llama), tiny_model("llama", **overrides)
    for use in (gates.check_fits, gates.fwd_hooks, lambda model: gates.attached(model).__enter__()):
        with pytest.raises(ModelError, match=rf"another shape.*{words}"):
            use(other)
    gates.check_fits(llama)


@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf, None, "x"])
def test_a_strength_that_is_not_finite_is_refused_before_anything_is_attached(llama: Any, strength: Any) -> None:
    gates = GateSet.identity(llama)
    before = {name: len(point._forward_hooks) for name, point in llama.hook_dict.items()}
    with pytest.raises(InputError, match="finite number"), gates.attached(llama, strength):
        pass
    for use in (lambda: gates.fwd_hooks(llama, strength), lambda: gates.scaled(strength)):
        with pytest.raises(InputError, match="finite number"):
            use()
    assert {name: len(point._forward_hooks) for name, point in llama.hook_dict.items()} == before


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (dict(), ["2*sigmoid(Wx + b)", "a element", "3 of 3 layers", "4 heads x 16", "6,336 parameters", "untrained"]),
        (dict(granularity="head", rank=2), ["rank 2", "a head", "228 parameters"]),
        (dict(input="static", layers=[1]), ["2*sigmoid(b)", "1 of 3 layers", "64 parameters"]),
    ],
    ids=str,
)
def test_the_repr_says_what_the_gates_are(llama: Any, kind: dict[str, Any], words: list[str]) -> None:
    text = repr(GateSet.identity(llama, **kind))
    assert all(word in text for word in [*words, "scale +1", "LlamaForCausalLM"])


def test_the_repr_shows_scale_training_and_nulls(llama: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(llama))
    assert "scale -2" in repr(gates.scaled(-2))
    gates.history = {"config": {"objective": "nll"}}
    assert "trained: nll" in repr(gates)
    gates.history = {"null": "row-sign null, seed 3"}
    assert "row-sign null, seed 3" in repr(gates)
    assert "unknown model" in repr(GateSet(shape_of(llama), layers=(0,)))
