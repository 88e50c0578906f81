"""Laws of patching: TransformerLens gives the same, patching a run with itself changes nothing, every architecture works."""

from typing import Any

import numpy as np
import pytest
import torch
from transformer_lens import patching as lens

from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.measure.patching import patch_heads, patched, unpatched
from mechgate.model.prompts import Row, collate, prompt_ids
from mechgate.model.resume import Resumable
from mechgate.testing import tiny_model

BEGIN = [5, 9, 17, 30, 41, 7]
CLEAN, CORRUPTED = [*BEGIN, 11, 23, 60, 3, 88], [*BEGIN, 12, 23, 61, 4, 88]


def metric(logits: torch.Tensor) -> torch.Tensor:
    return logits[0, -1, 40] - logits[0, -1, 70]


def slow(model: Any, clean: list[int], corrupted: list[int], positions: list[int] | None = None) -> np.ndarray:
    """One head of one run at a time, through TransformerLens' own hooks."""
    _, cache = model.run_with_cache(torch.tensor([clean]))
    cfg = model.cfg
    found = np.empty((cfg.n_layers, cfg.n_heads))
    for layer in range(cfg.n_layers):
        for head in range(cfg.n_heads):

            def put(z: torch.Tensor, hook: Any, layer: int = layer, head: int = head) -> torch.Tensor:
                places = range(z.shape[1]) if positions is None else positions
                z = z.clone()
                for place in places:
                    z[:, place, head] = cache[f"blocks.{layer}.attn.hook_z"][:, place, head]
                return z

            with torch.no_grad():
                logits = model.run_with_hooks(
                    torch.tensor([corrupted]), fwd_hooks=[(f"blocks.{layer}.attn.hook_z", put)]
                )
            found[layer, head] = float(metric(logits))
    return found


def test_every_architecture_gives_what_one_run_at_a_time_gives(bridge: Any) -> None:
    with torch.no_grad():
        expected = slow(bridge, CLEAN, CORRUPTED)
        found = patch_heads(bridge, CLEAN, CORRUPTED, metric, label=None)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found) > 1e-4
    np.testing.assert_allclose(
        patch_heads(bridge, CLEAN, CORRUPTED, metric, positions=[-3], label=None),
        slow(bridge, CLEAN, CORRUPTED, [len(CLEAN) - 3]),
        atol=1e-4,
    )


def test_transformer_lens_own_function_gives_the_same() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([CLEAN]))
        expected = lens.get_act_patch_attn_head_out_all_pos(model, torch.tensor([CORRUPTED]), cache, metric)
    np.testing.assert_allclose(patch_heads(model, CLEAN, CORRUPTED, metric, label=None), expected.numpy(), atol=1e-4)


def test_patching_a_run_with_itself_changes_nothing(bridge: Any) -> None:
    run = Resumable(bridge, CORRUPTED)
    own = unpatched(run, metric)
    assert own == pytest.approx(float(metric(bridge(torch.tensor([CORRUPTED])))), abs=1e-5)
    np.testing.assert_allclose(patch_heads(bridge, CORRUPTED, CORRUPTED, metric, label=None), own, atol=1e-5)
    np.testing.assert_allclose(patched(run, run.z, metric), own, atol=1e-5)


def test_the_shared_beginning_changes_nothing_and_is_not_needed(chat: Any) -> None:
    short = patch_heads(chat, CLEAN, CORRUPTED, metric, label=None)
    run = Resumable(chat, CORRUPTED, prefix=0)
    np.testing.assert_allclose(patched(run, Resumable(chat, CLEAN, prefix=0).z, metric), short, atol=1e-5)
    in_prefix = patch_heads(chat, CLEAN, CORRUPTED, metric, positions=[0, 2], label=None)
    np.testing.assert_allclose(in_prefix, unpatched(run, metric), atol=1e-5)
    wide = patch_heads(chat, CLEAN, CORRUPTED, lambda all_: float(all_.shape[1]), logits=len(CLEAN), label=None)
    assert (wide == len(CLEAN)).all()


def test_blocks_work_as_before_after_patching_and_after_an_error(chat: Any) -> None:
    before = chat(torch.tensor([CLEAN]))
    patch_heads(chat, CLEAN, CORRUPTED, metric, label=None)
    with pytest.raises(ZeroDivisionError):
        patch_heads(chat, CLEAN, CORRUPTED, lambda logits: 1 / 0, label=None)
    assert torch.equal(chat(torch.tensor([CLEAN])), before)


def test_another_model_can_be_the_source_and_layers_can_be_chosen(
    chat: Any, tmp_path: Any, tiny_chat_model: Any
) -> None:
    other = tiny_chat_model(tmp_path / "other", seed=7)
    found = patch_heads(chat, CLEAN, CORRUPTED, metric, source=other, layers=[2, 0], label=None)
    assert found.shape == (2, chat.cfg.n_heads)
    run = Resumable(chat, CORRUPTED)
    np.testing.assert_allclose(found, patched(run, Resumable(other, CLEAN).z, metric)[[2, 0]], atol=1e-6)
    assert np.abs(found - patch_heads(chat, CLEAN, CORRUPTED, metric, layers=[2, 0], label=None)).max() > 1e-4


def test_pairs_and_batches_are_prompts_too(chat: Any) -> None:
    pair = load_pairs("sycophancy", "medical", "test", phrasings=1)[0]
    ids = prompt_ids(chat, pair.messages)
    batch = collate([Row(prompt=ids, answers=())])
    expected = patch_heads(chat, list(ids), list(ids), metric, label=None)
    for prompt in (pair, batch, torch.tensor([ids])):
        np.testing.assert_array_equal(patch_heads(chat, prompt, prompt, metric, label=None), expected)


def test_what_cannot_be_patched_is_an_error(chat: Any) -> None:
    for wrong in (
        lambda: patch_heads(chat, CLEAN, CORRUPTED[:-1], metric),
        lambda: patch_heads(chat, torch.zeros(2, 5, dtype=torch.long), CLEAN, metric),
        lambda: patch_heads(chat, [], [], metric),
        lambda: patch_heads(chat, CLEAN, CORRUPTED, metric, positions=[99]),
        lambda: patch_heads(chat, CLEAN, CORRUPTED, metric, layers=[9]),
        lambda: patch_heads(chat, CLEAN, CORRUPTED, metric, logits=0),
        lambda: patch_heads(chat, CLEAN, CORRUPTED, lambda logits: float("nan")),
    ):
        with pytest.raises(InputError):
            wrong()
