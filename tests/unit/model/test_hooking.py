"""Laws of attaching functions to hook points."""

import copy
import gc
import weakref
from typing import Any

import pytest
import torch

from mechgate.errors import HookError, MechgateError
from mechgate.model.hooking import attached, resolve
from mechgate.testing import tiny_model

Z = "blocks.0.attn.hook_z"
LATE_Z = "blocks.2.attn.hook_z"


def tilt(z: torch.Tensor) -> torch.Tensor:
    """Scale heads by different factors: a common one would be undone by the norm behind Gemma's attention."""
    return z * torch.linspace(0.5, 2, z.shape[-2])[:, None]


def handles(model: Any) -> dict[str, int]:
    return {name: len(point._forward_hooks) for name, point in model.hook_dict.items()}


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens)


def test_an_unknown_name_raises_with_near_misses_before_anything_is_attached(llama: Any, tokens: torch.Tensor) -> None:
    before, calls = handles(llama), []
    hooks = {Z: calls.append, "blocks.1.attn.hook_zz": calls.append}
    words = r"1 hook point.*do not exist.*blocks\.1\.attn\.hook_zz"
    with pytest.raises(HookError, match=words) as caught, attached(llama, hooks):
        logits(llama, tokens)
    assert "blocks.1.attn.hook_z" in str(caught.value.do).split("try ")[1]
    assert handles(llama) == before
    assert calls == []


def test_all_unknown_names_are_counted_and_hopeless_ones_point_to_hook_dict(llama: Any) -> None:
    with pytest.raises(HookError, match=r"2 hook point.*hook_dict"):
        resolve(llama, ["qqqq", Z, "blocks.99.attn.hook_z"])


def test_hook_errors_are_lookup_errors_and_mechgate_errors(llama: Any) -> None:
    with pytest.raises(LookupError) as caught:
        resolve(llama, ["nowhere"])
    assert isinstance(caught.value, MechgateError)


def test_hooks_change_the_model_inside_the_block_and_leave_nothing_behind(bridge: Any, tokens: torch.Tensor) -> None:
    base, before = logits(bridge, tokens), handles(bridge)
    with attached(bridge, {Z: tilt}):
        inside = logits(bridge, tokens)
    assert (inside - base).abs().max() > 1e-3
    assert torch.equal(logits(bridge, tokens), base)
    assert handles(bridge) == before


def test_hooks_are_removed_when_the_block_raises(llama: Any, tokens: torch.Tensor) -> None:
    base, before = logits(llama, tokens), handles(llama)
    with pytest.raises(ZeroDivisionError), attached(llama, {Z: tilt, LATE_Z: tilt}):
        logits(llama, tokens)
        _ = 1 / 0
    assert torch.equal(logits(llama, tokens), base)
    assert handles(llama) == before


def test_hooks_are_removed_when_a_hook_raises(llama: Any, tokens: torch.Tensor) -> None:
    def fail(_: torch.Tensor) -> None:
        raise FloatingPointError("from the hook")

    base, before = logits(llama, tokens), handles(llama)
    with pytest.raises(FloatingPointError, match="from the hook"), attached(llama, {Z: tilt, LATE_Z: fail}):
        logits(llama, tokens)
    assert torch.equal(logits(llama, tokens), base)
    assert handles(llama) == before


def test_a_hook_that_never_fired_raises_and_is_named(llama: Any, tokens: torch.Tensor) -> None:
    silent = "blocks.1.attn.hook_result"  # fires only behind a flag
    words = r"1 of 2 attached hooks never fired.*blocks\.1\.attn\.hook_result"
    with pytest.raises(HookError, match=words), attached(llama, {Z: tilt, silent: tilt}):
        logits(llama, tokens)
    assert handles(llama)[silent] == 0


def test_an_error_in_the_block_is_not_replaced_by_the_one_about_silent_hooks(llama: Any) -> None:
    with pytest.raises(ZeroDivisionError), attached(llama, {Z: tilt}):
        _ = 1 / 0


def test_must_fire_false_allows_silent_hooks(llama: Any) -> None:
    with attached(llama, {Z: tilt}, must_fire=False) as firings:
        pass
    assert firings == {Z: 0}
    assert firings.silent() == [Z]


def test_firings_count_runs_of_each_hook(llama: Any, tokens: torch.Tensor) -> None:
    with attached(llama, {Z: tilt, LATE_Z: tilt}) as firings:
        logits(llama, tokens)
        logits(llama, tokens)
    assert firings == {Z: 2, LATE_Z: 2}
    assert firings.silent() == []


def test_nested_blocks_compose_outer_first(bridge: Any, tokens: torch.Tensor) -> None:
    with attached(bridge, {Z: tilt}), attached(bridge, {Z: lambda z: z + 1}):
        nested = logits(bridge, tokens)
    with attached(bridge, {Z: lambda z: tilt(z) + 1}):
        assert torch.equal(logits(bridge, tokens), nested)
    with attached(bridge, {Z: lambda z: tilt(z + 1)}):
        assert not torch.equal(logits(bridge, tokens), nested)


def test_leaving_the_inner_block_keeps_the_outer_hooks(llama: Any, tokens: torch.Tensor) -> None:
    with attached(llama, {Z: tilt}):
        outer = logits(llama, tokens)
        with attached(llama, {Z: tilt}):
            assert not torch.equal(logits(llama, tokens), outer)
        assert torch.equal(logits(llama, tokens), outer)


def test_reset_hooks_inside_a_block_does_not_remove_ours(bridge: Any, tokens: torch.Tensor) -> None:
    with attached(bridge, {Z: tilt}) as firings:
        expected = logits(bridge, tokens)
        bridge.reset_hooks(including_permanent=True)
        assert torch.equal(logits(bridge, tokens), expected)
    assert firings == {Z: 2}


def test_run_with_cache_inside_a_block_sees_the_changed_z(bridge: Any, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        base_logits, base = bridge.run_with_cache(tokens)
        with attached(bridge, {Z: tilt}):
            changed_logits, changed = bridge.run_with_cache(tokens)
    assert torch.equal(changed[Z], tilt(base[Z]))
    assert not torch.equal(changed_logits, base_logits)


def test_run_with_hooks_inside_a_block_sees_the_changed_z(bridge: Any, tokens: torch.Tensor) -> None:
    seen: list[torch.Tensor] = []

    def look(z: torch.Tensor, hook: Any) -> None:
        seen.append(z.clone())

    with torch.no_grad():
        bridge.run_with_hooks(tokens, fwd_hooks=[(Z, look)])
        with attached(bridge, {Z: tilt}):
            inside = bridge.run_with_hooks(tokens, fwd_hooks=[(Z, look)])
            assert torch.equal(inside, bridge(tokens))
    assert torch.equal(seen[1], tilt(seen[0]))


def test_a_users_own_hooks_survive_the_block(tokens: torch.Tensor) -> None:
    model, runs = tiny_model(), []
    model.add_hook(Z, lambda z, hook: runs.append("before"))
    with attached(model, {Z: tilt}):
        model.add_hook(LATE_Z, lambda z, hook: runs.append("inside"))
        logits(model, tokens)
    assert runs == ["before", "inside"]
    logits(model, tokens)
    assert runs == ["before", "inside"] * 2
    model.reset_hooks()
    logits(model, tokens)
    assert len(runs) == 4


def test_a_z_hook_sees_heads_on_every_architecture(bridge: Any, tokens: torch.Tensor) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    sites = [f"blocks.{layer}.attn.hook_z" for layer in range(bridge.cfg.n_layers)]
    with attached(bridge, {name: lambda z, n=name: shapes.update({n: tuple(z.shape)}) for name in sites}):
        logits(bridge, tokens)
    assert shapes == dict.fromkeys(sites, (*tokens.shape, bridge.cfg.n_heads, bridge.cfg.d_head))


def test_watching_and_writing_back_the_same_z_change_nothing(bridge: Any, tokens: torch.Tensor) -> None:
    base = logits(bridge, tokens)
    for keep in (lambda z: None, lambda z: z, lambda z: z.clone()):
        with attached(bridge, {Z: keep, "blocks.1.attn.hook_in": keep}):
            assert torch.equal(logits(bridge, tokens), base)


def test_zeroing_one_head_of_z_removes_just_what_that_head_writes(bridge: Any, tokens: torch.Tensor) -> None:
    def only(head: int) -> Any:
        keep = torch.zeros(bridge.cfg.n_heads, 1)
        keep[head] = 1
        return lambda z: z * keep

    def written(hook: Any) -> torch.Tensor:
        out: list[torch.Tensor] = []
        with attached(bridge, {Z: hook, "blocks.0.attn.hook_out": out.append}):
            logits(bridge, tokens)
        return out[0]

    bias = written(lambda z: 0 * z)
    parts = sum(written(only(head)) - bias for head in range(bridge.cfg.n_heads))
    assert torch.allclose(parts + bias, written(lambda z: None), atol=1e-4)
    assert torch.allclose(bias, bias[:1, :1].expand_as(bias))  # nothing but a constant is left without z


@pytest.mark.parametrize("grad", [False, True], ids=["no grad", "grad"])
def test_hooks_work_with_and_without_gradients(bridge: Any, tokens: torch.Tensor, grad: bool) -> None:
    factor = torch.linspace(0.5, 2, bridge.cfg.n_heads)[:, None].requires_grad_()
    with torch.set_grad_enabled(grad), attached(bridge, {Z: lambda z: z * factor}):
        result = bridge(tokens)
    with attached(bridge, {Z: tilt}):
        assert torch.equal(result.detach(), logits(bridge, tokens))
    assert result.requires_grad == grad
    if grad:
        result.logsumexp(-1).sum().backward()
        assert factor.grad is not None
        assert (factor.grad != 0).all()


def test_hooks_fire_under_the_wrapped_hugging_face_model_too(bridge: Any, tokens: torch.Tensor) -> None:
    with torch.no_grad(), attached(bridge, {Z: tilt}):
        assert torch.allclose(bridge.original_model(input_ids=tokens).logits, bridge(tokens), atol=1e-5)


def test_a_copied_model_has_hook_points_of_its_own(tokens: torch.Tensor) -> None:
    model = tiny_model()
    base = logits(model, tokens)
    other = copy.deepcopy(model)
    with attached(other, {Z: tilt}):
        assert torch.equal(logits(model, tokens), base)
        assert not torch.equal(logits(other, tokens), base)


def test_resolving_names_does_not_keep_a_model_alive() -> None:
    model = tiny_model()
    resolve(model, [Z])
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
