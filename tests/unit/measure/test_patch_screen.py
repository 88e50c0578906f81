"""Laws of attribution patching: exact where the metric is linear in z, better with more nodes, and honest about the rest."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.patch_screen import agreement, attribute_heads
from mechgate.measure.patching import patched, unpatched
from mechgate.model import hooking
from mechgate.model.resume import Resumable
from mechgate.model.scoring import logits_of
from tests.unit.measure.test_patching import CLEAN, CORRUPTED, metric


def near(clean: list[int], corrupted: list[int], model: Any, share: float, during: Any = nullcontext) -> Any:
    """Exact patches of a small share of the way, over the share: what the gradient at the start says."""
    one, two = Resumable(model, clean), Resumable(model, corrupted, during=during)
    values = two.z + share * (one.z - two.z)
    return (patched(two, values, metric) - unpatched(two, metric)) / share


def test_the_first_order_is_the_slope_of_exact_patches(bridge: Any) -> None:
    found = attribute_heads(bridge, CLEAN, CORRUPTED, metric)
    np.testing.assert_allclose(found, near(CLEAN, CORRUPTED, bridge, 0.002), atol=2e-2 * np.abs(found).max() + 1e-4)


def test_integrated_over_all_heads_the_parts_add_up_to_the_whole_way(chat: Any) -> None:
    """All z moved at once, from the corrupted run's to the clean one's."""
    run, clean = Resumable(chat, CORRUPTED), Resumable(chat, CLEAN)
    parts = attribute_heads(chat, CLEAN, CORRUPTED, metric, nodes=64).sum()
    step = clean.z - run.z

    def moved(share: float) -> float:
        hooks = {f"blocks.{k}.attn.hook_z": lambda z, k=k: z + share * step[k] for k in range(len(step))}
        with torch.no_grad(), hooking.attached(chat, hooks):
            return float(metric(logits_of(chat, run.forward(1)[:, -1:])))

    whole = moved(1.0) - moved(0.0)
    assert parts == pytest.approx(whole, rel=1e-2)
    first = attribute_heads(chat, CLEAN, CORRUPTED, metric).sum()
    assert abs(parts - whole) < abs(first - whole)


def test_gates_that_are_attached_are_gone_through(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat), size=0.5)
    during = partial(gates.attached, chat, -1.0)
    found = attribute_heads(chat, CLEAN, CORRUPTED, metric, during=during)
    expected = near(CLEAN, CORRUPTED, chat, 0.002, during)
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(found).max())
    assert np.abs(found - attribute_heads(chat, CLEAN, CORRUPTED, metric)).max() > 0.1 * np.abs(found).max()


def test_agreement_is_what_correlations_give_and_needs_variation() -> None:
    a = np.arange(6.0).reshape(2, 3)
    found = agreement(a, a**3)
    assert (found.spearman, found.n) == (pytest.approx(1.0), 6)
    assert found.pearson == pytest.approx(np.corrcoef(a.ravel(), (a**3).ravel())[0, 1])
    for wrong in ((a, a[:1]), (a, np.zeros_like(a))):
        with pytest.raises(InputError):
            agreement(*wrong)


def test_what_cannot_be_screened_is_an_error(chat: Any) -> None:
    for wrong in (
        lambda: attribute_heads(chat, CLEAN, CORRUPTED, metric, nodes=0),
        lambda: attribute_heads(chat, CLEAN, CORRUPTED[:-1], metric),
        lambda: attribute_heads(chat, CLEAN, CORRUPTED, lambda logits: 1.0),
    ):
        with pytest.raises(InputError):
            wrong()
