"""Laws of direct effects: they are what a run with everything else frozen gives, and the closed form in the last layer."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.analysis.direct import direct_effects
from mechgate.analysis.head_sets import SetEffects
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gate import write
from mechgate.gates.gateset import GateSet
from mechgate.gates.subsets import gated_heads, keep_heads
from mechgate.measure.margins import batch_margins, stance_margins, stance_rows
from mechgate.model import hooking
from mechgate.model.prompts import collate
from mechgate.testing import ARCHITECTURES

Shake = Callable[..., GateSet]
PAIRS = load_pairs("sycophancy", "medical", "test", phrasings=1)[:3]
ANSWERS = (("Yes, that's right.", "No, that's wrong."), ("True.", "False."))
SETS: list[list[tuple[int, int]]] = [
    *([(layer, head) for head in range(4)] for layer in range(3)),
    [(0, 1)],
    [(2, 3)],
    [(0, 0), (1, 2), (1, 3)],
    [(layer, head) for layer in range(3) for head in range(4)],
    [],
]


def direct(model: Any, gates: GateSet, sets: list[Any], strength: float = -1.0, **options: Any) -> np.ndarray:
    return direct_effects(model, gates, sets, PAIRS, ANSWERS, strength=strength, label=None, **options)


def recorded(model: Any, names: list[str], run: Callable[[], Any]) -> tuple[Any, dict[str, torch.Tensor]]:
    """What `run()` gives, and what was at these hook points meanwhile."""
    seen: dict[str, torch.Tensor] = {}
    with hooking.attached(model, {n: lambda v, n=n: seen.update({n: v.clone()}) for n in names}):
        return run(), seen


def constant(value: torch.Tensor) -> hooking.Hook:
    return lambda _: value


def frozen_run(model: Any, gates: GateSet, heads: Iterable[tuple[int, int]], strength: float) -> np.ndarray:
    """The slow way: one forward a set, one prompt at a time, with hooks that put the base's outputs back everywhere."""
    only, heads = keep_heads(gates, heads), set(heads)
    found = []
    for row in stance_rows(model, PAIRS, ANSWERS):
        batch = collate([row])
        points = ("attn.hook_in", "attn.hook_z", "attn.hook_out", "mlp.hook_out")
        names = [f"blocks.{k}.{point}" for k in range(3) for point in points]
        with torch.inference_mode():
            base, seen = recorded(model, names, lambda batch=batch: batch_margins(model, batch))
            hooks = {name: constant(value) for name, value in seen.items() if name.endswith("mlp.hook_out")}
            for k in range(3):
                if any(layer == k for layer, _ in heads):
                    delta = only.gate(k).delta(seen[f"blocks.{k}.attn.hook_in"])
                    z = write(seen[f"blocks.{k}.attn.hook_z"], delta, strength)
                    hooks[f"blocks.{k}.attn.hook_z"] = constant(z)
                else:
                    hooks[f"blocks.{k}.attn.hook_out"] = constant(seen[f"blocks.{k}.attn.hook_out"])
            with hooking.attached(model, hooks):
                found.append(float(batch_margins(model, batch) - base))
    return np.array(found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_direct_effects_are_those_of_a_run_with_all_else_frozen(
    architecture: str, tiny_chat_model: Callable[..., Any], tmp_path: Any, shaken: Shake
) -> None:
    model = tiny_chat_model(tmp_path / "model", architecture)
    gates = shaken(GateSet.identity(model), size=0.5)
    found = direct(model, gates, SETS)
    expected = [frozen_run(model, gates, heads, -1.0) for heads in SETS]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(found[:3]).max(axis=1).min() > 0.01
    assert not found[-1].any()


def test_the_last_layer_is_its_own_output_through_the_final_norm(chat: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(chat), size=0.5)
    hf = chat.original_model
    found = direct(chat, gates, [[(2, head)] for head in range(4)], strength=1.0)
    weight = {name.replace("._original_component", ""): value for name, value in hf.named_parameters()}
    w_o, norm = weight["model.layers.2.self_attn.o_proj.weight"], weight["model.norm.weight"]
    d_head = gates.shape.d_head
    for i, row in enumerate(stance_rows(chat, PAIRS, ANSWERS)):
        margins = []
        for head in (None, 0, 1, 2, 3):
            sums = []
            for answer in row.answers:
                ids = torch.tensor([[*row.prompt, *answer]])
                names = ["blocks.2.attn.hook_in", "blocks.2.attn.hook_z", "ln_final.hook_in"]
                with torch.no_grad():
                    _, seen = recorded(chat, names, lambda ids=ids: chat(ids))
                    last = seen[names[2]][0]
                    if head is not None:
                        own = slice(head * d_head, (head + 1) * d_head)
                        extra = gates.gate(2).delta(seen[names[0]])[0, :, own] * seen[names[1]][0, :, head]
                        last = last + extra @ w_o[:, own].T
                    normed = norm * last / (last.pow(2).mean(dim=-1, keepdim=True) + hf.config.rms_norm_eps).sqrt()
                    logs = hf.get_output_embeddings()(normed).log_softmax(dim=-1)
                n = len(row.prompt)
                sums.append(sum(float(logs[n - 1 + k, token]) for k, token in enumerate(answer)))
            margins.append(np.mean([a - b for a, b in zip(sums[0::2], sums[1::2], strict=True)]))
        np.testing.assert_allclose(found[:, i], np.array(margins[1:]) - margins[0], atol=2e-3)


def test_effects_that_later_layers_cannot_see_are_direct_only(chat: Any, shaken: Shake) -> None:
    """With MLPs of the last layer silent, gates of the last attention have nothing downstream."""
    gates = shaken(GateSet.identity(chat), size=0.5)
    sets = [[(2, head)] for head in range(4)] + [[(0, 0)]]
    with hooking.attached(chat, {"blocks.2.mlp.hook_out": lambda value: value * 0.0}):
        total = SetEffects(chat, gates, PAIRS, ANSWERS, strength=-1.0)(sets, None)
        alone = direct(chat, gates, sets)
    np.testing.assert_allclose(alone[:4], total[:4], atol=1e-3)
    assert np.abs(alone[4] - total[4]).max() > 0.01


def test_batches_change_nothing_and_the_model_is_left_as_it_was(chat: Any, shaken: Shake, tokens: torch.Tensor) -> None:
    gates = shaken(GateSet.identity(chat, "head"), size=0.5)
    before = stance_margins(chat, PAIRS, ANSWERS, label=None)
    few, many = (direct(chat, gates, SETS, batch_size=n) for n in (1, 8))
    np.testing.assert_allclose(few, many, atol=1e-3)
    np.testing.assert_array_equal(stance_margins(chat, PAIRS, ANSWERS, label=None), before)
    assert not direct(chat, gates, SETS, strength=0.0).any()


def test_what_cannot_be_asked_is_an_error(chat: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(chat, layers=[1]))
    for wrong in ([], [[(0, 0)]], [[(1, 9)]]):
        with pytest.raises(InputError, match="sets of gated heads"):
            direct(chat, gates, wrong)
    with pytest.raises(InputError, match="head by head"):
        direct(chat, GateSet.identity(chat, "layer"), [gated_heads(gates)])
