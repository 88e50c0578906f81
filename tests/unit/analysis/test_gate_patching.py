"""Laws of gate patching: knocking is gating with one head or without it, and the same prompt's gates change nothing."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.analysis.gate_patching import knock_heads, patch_gates
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.patching import patch_heads
from tests.unit.measure.test_patching import CLEAN, CORRUPTED, metric


def one_head(gates: GateSet, layer: int, head: int, *, only: bool) -> GateSet:
    """The gates of one head alone, or of all but that one, as a gate set of their own."""
    found = copy.deepcopy(gates)
    width = gates.shape.d_head
    with torch.no_grad():
        for k in found.layers:
            keep = torch.full((gates.shape.d_z,), not only)
            if k == layer:
                keep[head * width : (head + 1) * width] = only
            for parameter in found.gate(k).parameters():
                parameter[~keep] = 0.0
    return found


@pytest.mark.parametrize(("way", "only"), [("in", True), ("out", False)])
def test_knocking_is_gating_with_one_head_or_without_it(
    chat: Any, shaken: Callable[..., GateSet], way: str, only: bool
) -> None:
    gates = shaken(GateSet.identity(chat), size=0.5)
    found = knock_heads(chat, gates, CLEAN, metric, strength=-1.0, way=way, label=None)
    for layer in range(chat.cfg.n_layers):
        for head in range(chat.cfg.n_heads):
            with one_head(gates, layer, head, only=only).attached(chat, -1.0):
                expected = float(metric(chat(torch.tensor([CLEAN]))))
            if way == "in":
                assert found[layer, head] == pytest.approx(expected, abs=1e-4)
            else:  # later gates read what this one left, so leaving it out is the same
                assert found[layer, head] == pytest.approx(expected, abs=1e-4)
    assert np.ptp(found) > 1e-4


def test_heads_without_gates_cannot_be_knocked(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat, layers=[1]), size=0.5)
    with gates.attached(chat, 1.0):
        gated = float(metric(chat(torch.tensor([CLEAN]))))
    out = knock_heads(chat, gates, CLEAN, metric, strength=1.0, label=None)
    np.testing.assert_allclose(out[[0, 2]], gated, atol=1e-5)
    assert np.abs(out[1] - gated).max() > 1e-4


def test_gate_values_from_the_same_prompt_change_nothing_and_others_only_through_the_gate(
    chat: Any, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(chat), size=0.5)
    with gates.attached(chat, -1.0):
        gated = float(metric(chat(torch.tensor([CORRUPTED]))))
    same = patch_gates(chat, gates, CORRUPTED, CORRUPTED, metric, strength=-1.0, label=None)
    np.testing.assert_allclose(same, gated, atol=1e-5)
    assert np.abs(patch_gates(chat, gates, CLEAN, CORRUPTED, metric, strength=-1.0, label=None) - gated).max() > 1e-5
    static = shaken(GateSet.identity(chat, input="static"), size=0.5)
    with static.attached(chat, -1.0):
        gated = float(metric(chat(torch.tensor([CORRUPTED]))))
    found = patch_gates(chat, static, CLEAN, CORRUPTED, metric, strength=-1.0, label=None)
    np.testing.assert_allclose(found, gated, atol=1e-5)  # gates that read nothing are the same everywhere


def test_gates_can_be_attached_around_the_corrupted_runs(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat), size=0.5)
    during = partial(gates.attached, chat, -1.0)
    found = patch_heads(chat, CORRUPTED, CORRUPTED, metric, during=during, label=None)
    out = knock_heads(chat, gates, CORRUPTED, metric, strength=-1.0, label=None)
    np.testing.assert_allclose(found[0], out[0], atol=1e-5)  # in the first layer both put the base's z there
    assert np.abs(found - out).max() > 1e-5


def test_heads_are_knocked_in_or_out_and_prompts_are_equally_long(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    with pytest.raises(InputError, match="way"):
        knock_heads(chat, gates, CLEAN, metric, strength=1.0, way="off")
    with pytest.raises(InputError, match="equally many"):
        patch_gates(chat, gates, CLEAN[:-1], CLEAN, metric, strength=1.0)
