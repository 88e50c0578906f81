"""Laws of gated models: what happens to logits, gradients and caches when gates are attached."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mechgate.errors import HookError
from mechgate.gates.gate import GRANULARITIES
from mechgate.gates.gateset import GateSet
from mechgate.model import hooking
from mechgate.model.loading import load_model
from mechgate.testing import tiny_hf, tiny_model

INPUTS = [dict(), dict(rank=1), dict(input="static")]
KINDS = pytest.mark.parametrize(
    "kind", [dict(granularity=g, **i) for g, i in itertools.product(GRANULARITIES, INPUTS)], ids=str
)
Shake = Callable[..., GateSet]


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens)


def gated(model: Any, gates: GateSet, tokens: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    with gates.attached(model, strength):
        return logits(model, tokens)


@KINDS
def test_new_gates_leave_the_logits_bit_for_bit_as_they_were(
    bridge: Any, kind: dict[str, Any], tokens: torch.Tensor
) -> None:
    gates, base = GateSet.identity(bridge, **kind), logits(bridge, tokens)
    for strength in (1.0, -1.0, 5.0):
        assert torch.equal(gated(bridge, gates, tokens, strength), base)


@KINDS
def test_strength_zero_is_the_base_model_bit_for_bit(
    bridge: Any, kind: dict[str, Any], tokens: torch.Tensor, shaken: Shake
) -> None:
    gates, base = shaken(GateSet.identity(bridge, **kind)), logits(bridge, tokens)
    assert torch.equal(gated(bridge, gates, tokens, 0.0), base)
    assert torch.equal(gated(bridge, gates.scaled(0.0), tokens, 3.0), base)
    assert not torch.equal(gated(bridge, gates, tokens), base)
    assert torch.equal(logits(bridge, tokens), base)


@pytest.mark.parametrize("strength", [1.0, -1.0, 2.5])
@KINDS
def test_gating_equals_plain_torch_hooks_on_the_hugging_face_model(
    kind: dict[str, Any], strength: float, tokens: torch.Tensor, shaken: Shake
) -> None:
    model, hf = tiny_model(), tiny_hf()
    gates, read = shaken(GateSet.identity(model, **kind)), {}
    for i, layer in enumerate(hf.model.layers):
        weights = dict(gates.gate(i).named_parameters())
        w = weights.get("weight", weights["up"] @ weights["down"] if "up" in weights else torch.zeros(1, 32))

        def keep(_: Any, __: Any, x: torch.Tensor, i: int = i) -> None:
            read[i] = x

        def scale(_: Any, args: Any, i: int = i, w: torch.Tensor = w, b: torch.Tensor = weights["bias"]) -> Any:
            g = 1 + strength * (2 * torch.sigmoid(read[i] @ w.T + b) - 1)
            return (args[0] * g.repeat_interleave(64 // g.shape[-1], dim=-1),)  # 4 heads of 16, head-major

        layer.input_layernorm.register_forward_hook(keep)
        layer.self_attn.o_proj.register_forward_pre_hook(scale)
    with torch.no_grad():
        expected = hf(input_ids=tokens).logits
    torch.testing.assert_close(gated(model, gates, tokens, strength), expected, atol=2e-5, rtol=0)
    assert (expected - logits(model, tokens)).abs().max() > 0.1


@KINDS
def test_fwd_hooks_give_what_attached_gives_bit_for_bit(
    bridge: Any, kind: dict[str, Any], tokens: torch.Tensor, shaken: Shake
) -> None:
    gates = shaken(GateSet.identity(bridge, **kind)).scaled(0.5)
    with torch.no_grad():
        through_hooks = bridge.run_with_hooks(tokens, fwd_hooks=gates.fwd_hooks(bridge, strength=-3.0))
    assert torch.equal(through_hooks, gated(bridge, gates, tokens, -3.0))


def test_the_same_fwd_hooks_can_be_used_again(llama: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    hooks = shaken(GateSet.identity(llama)).fwd_hooks(llama)
    with torch.no_grad():
        first = llama.run_with_hooks(tokens, fwd_hooks=hooks)
        llama.run_with_hooks(tokens[:, :4], fwd_hooks=hooks)
        assert torch.equal(llama.run_with_hooks(tokens, fwd_hooks=hooks), first)


def test_views_turn_the_same_dial_as_strength(bridge: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(bridge))
    for s in (1.0, 0.5, -2.0):
        assert torch.equal(gated(bridge, gates.negated(), tokens, s), gated(bridge, gates, tokens, -s))
        assert torch.equal(gated(bridge, gates.scaled(2.0), tokens, s), gated(bridge, gates, tokens, 2 * s))


def test_the_inversion_is_the_gate_of_negated_parameters(bridge: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(bridge))
    inverted = gated(bridge, gates, tokens, -1.0)
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.neg_()
    torch.testing.assert_close(gated(bridge, gates, tokens), inverted, atol=1e-4, rtol=0)


def test_gates_on_some_layers_leave_earlier_ones_alone(llama: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    with torch.no_grad():
        _, base = llama.run_with_cache(tokens)
        with shaken(GateSet.identity(llama, layers=[1])).attached(llama):
            _, changed = llama.run_with_cache(tokens)
    same = {name for name in base if torch.equal(base[name], changed[name])}
    assert {"blocks.0.attn.hook_z", "blocks.1.attn.hook_in", "blocks.1.attn.hook_pattern"} <= same
    assert not same & {"blocks.1.attn.hook_z", "blocks.1.hook_resid_post", "blocks.2.attn.hook_in"}


def test_nested_gates_multiply_in_any_order(bridge: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    a = shaken(GateSet.identity(bridge), seed=1, size=0.5)
    b = shaken(GateSet.identity(bridge, "head", layers=[0, 2]), seed=2, size=0.5)
    with b.attached(bridge, -1.0):
        one = gated(bridge, a, tokens)
    with a.attached(bridge):
        other = gated(bridge, b, tokens, -1.0)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)

    hooks = {}
    for layer in range(3):
        kept: list[torch.Tensor] = []

        def product(z: torch.Tensor, layer: int = layer, kept: list[torch.Tensor] = kept) -> torch.Tensor:
            x = kept.pop()
            g = a.gate(layer)(x).unflatten(-1, z.shape[-2:])
            return z * g * (b.gate(layer)(x, -1.0)[..., None] if layer in b.layers else 1)

        hooks |= {f"blocks.{layer}.attn.hook_in": kept.append, f"blocks.{layer}.attn.hook_z": product}
    with hooking.attached(bridge, hooks):
        torch.testing.assert_close(logits(bridge, tokens), one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_kv_cache_changes_nothing(
    bridge: Any, granularity: str, tokens: torch.Tensor, shaken: Shake, in_pieces: Any
) -> None:
    gates, hf = shaken(GateSet.identity(bridge, granularity)), bridge.original_model
    with torch.no_grad(), gates.attached(bridge):
        whole, pieces = hf(input_ids=tokens, use_cache=False).logits, in_pieces(hf, tokens)
    torch.testing.assert_close(pieces, whole, atol=5e-5, rtol=0)


def test_gated_generation_equals_full_recomputation(bridge: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    gates, hf, prompt = shaken(GateSet.identity(bridge)), bridge.original_model, tokens[:1]
    options = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=2)
    with torch.no_grad(), gates.attached(bridge):
        generated = hf.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        ids = prompt
        for _ in range(6):
            scores = hf(input_ids=ids, use_cache=False).logits[:, -1]
            scores[:, hf.generation_config.eos_token_id] = -torch.inf  # as min_new_tokens does
            ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(generated, ids)


def test_a_bfloat16_model_takes_fp32_gates(tiny: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    exact = gated(tiny, shaken(GateSet.identity(tiny), size=0.3), tokens)
    half = load_model(tiny.original_model, dtype="bfloat16")
    gates, base = GateSet.identity(half), logits(half, tokens)
    assert torch.equal(gated(half, gates, tokens), base)
    shaken(gates, size=0.3)
    assert torch.equal(gated(half, gates, tokens, 0.0), base)
    rough = gated(half, gates, tokens)
    assert rough.dtype == torch.bfloat16
    assert 0 < (rough.float() - exact).abs().mean() < 0.15
    assert {parameter.dtype for parameter in gates.parameters()} == {torch.float32}


@KINDS
def test_gradients_reach_every_parameter_and_only_the_gates(
    bridge: Any, kind: dict[str, Any], tokens: torch.Tensor, shaken: Shake
) -> None:
    gates = shaken(GateSet.identity(bridge, **kind), size=0.5)
    with gates.attached(bridge):
        result = bridge(tokens)
    result.log_softmax(-1)[..., 5].sum().backward()
    for name, parameter in gates.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name
    assert all(parameter.grad is None for parameter in bridge.original_model.parameters())


def test_new_gates_can_start_to_learn(llama: Any, tokens: torch.Tensor) -> None:
    for kind in INPUTS:
        gates = GateSet.identity(llama, **kind)
        with gates.attached(llama):
            llama(tokens).log_softmax(-1)[..., 5].sum().backward()
        moving = {name.split(".")[-1] for name, p in gates.named_parameters() if p.grad is not None and p.grad.any()}
        assert moving == {"bias"} | ({"weight"} if kind == {} else set()) | ({"up"} if "rank" in kind else set())


def test_a_gradient_equals_the_finite_difference(llama: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(llama, "head"), size=0.5)

    def loss() -> torch.Tensor:
        with gates.attached(llama):
            return llama(tokens).double().log_softmax(-1)[..., 5].mean()

    loss().backward()
    bias = gates.gate(1).bias
    assert bias.grad is not None
    with torch.no_grad():
        bias[2] += 1e-2
        up = loss()
        bias[2] -= 2e-2
        down = loss()
    assert abs((up - down) / 2e-2 - bias.grad[2]) < 1e-2 * bias.grad.abs().max()


def test_not_running_the_model_inside_the_block_is_an_error(llama: Any) -> None:
    with pytest.raises(HookError, match=r"6 of 6 attached hooks never fired"), GateSet.identity(llama).attached(llama):
        pass


def test_attached_reports_that_every_gate_fired(bridge: Any, tokens: torch.Tensor) -> None:
    gates = GateSet.identity(bridge)
    with gates.attached(bridge) as firings:
        logits(bridge, tokens)
    assert firings == {name: 1 for site in gates.sites for name in (site.read, site.write)}


@pytest.mark.parametrize("where", ["blocks.1.attn.hook_in", "blocks.1.attn.hook_pattern", "blocks.1.attn.hook_z"])
def test_an_exception_in_the_model_leaves_no_trace(llama: Any, where: str, tokens: torch.Tensor, shaken: Shake) -> None:
    def fail(_: torch.Tensor) -> None:
        raise FloatingPointError

    gates = shaken(GateSet.identity(llama))
    base, expected = logits(llama, tokens), gated(llama, gates, tokens)
    with pytest.raises(FloatingPointError), hooking.attached(llama, {where: fail}), gates.attached(llama):
        logits(llama, tokens)
    assert torch.equal(logits(llama, tokens), base)
    assert torch.equal(gated(llama, gates, tokens), expected)


def test_fwd_hooks_are_not_stale_after_an_exception(llama: Any, tokens: torch.Tensor, shaken: Shake) -> None:
    def fail(pattern: torch.Tensor, hook: Any) -> None:
        raise FloatingPointError

    hooks = shaken(GateSet.identity(llama)).fwd_hooks(llama)
    with torch.no_grad():
        expected = llama.run_with_hooks(tokens, fwd_hooks=hooks)
        with pytest.raises(FloatingPointError):
            llama.run_with_hooks(tokens.flip(1), fwd_hooks=[*hooks, ("blocks.1.attn.hook_pattern", fail)])
        assert torch.equal(llama.run_with_hooks(tokens, fwd_hooks=hooks), expected)
