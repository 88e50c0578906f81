"""Laws of gate attribution: slopes are finite differences, parts add up, and one backward pass serves every gate."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.analysis.attribution import Screen, integrated_attribution, screen
from mechgate.data.tasks import load_pairs, stance_answers
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import neutral_inputs
from mechgate.gates.nulls import null_gates
from mechgate.measure.margins import stance_margins
from mechgate.model.prompts import collate, encode_text
from mechgate.testing import ARCHITECTURES

PAIRS = load_pairs("sycophancy", "medical", "test", phrasings=1)[:4]
ANSWERS = stance_answers()[:2]
GRANULARITIES = ("element", "head", "layer")


def margin(model: Any, gates: GateSet, strength: float) -> np.ndarray:
    with gates.attached(model, strength):
        return stance_margins(model, PAIRS, ANSWERS, label=None).mean(axis=1)


def only(gates: GateSet, layer: int, unit: int) -> GateSet:
    """The gates with every unit switched off but one."""
    found = copy.deepcopy(gates)
    with torch.no_grad():
        for n in found.layers:
            gate = found.gate(n)
            keep = torch.zeros_like(gate.bias)
            if n == layer:
                keep[unit] = 1
            gate.bias.mul_(keep)
            assert gate.weight is not None
            gate.weight.mul_(keep[:, None])
    return found


@pytest.fixture(scope="module")
def kept(chat: Any) -> Screen:
    return screen(chat, PAIRS, ANSWERS, label=None)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]
) -> Any:
    return tiny_chat_model(tmp_path_factory.mktemp("model"), request.param)


def test_the_first_order_effect_is_the_slope_at_zero(model: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(model))
    step = 1e-3
    slope = (margin(model, gates, step) - margin(model, gates, -step)) / (2 * step)
    found = screen(model, PAIRS, ANSWERS, label=None).effects(gates)
    np.testing.assert_allclose(found, slope, rtol=0.02, atol=0.02 * np.abs(slope).max())
    assert np.abs(slope).max() > 0.05


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_units_contribution_is_the_slope_with_that_unit_alone(
    chat: Any, kept: Screen, granularity: str, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(chat, granularity))
    whole = kept.units(gates)
    for k, layer in enumerate(gates.layers):
        unit = int(np.abs(whole[:, k]).mean(axis=0).argmax())
        alone = kept.units(only(gates, layer, unit))
        np.testing.assert_allclose(alone[:, k, unit], whole[:, k, unit], rtol=1e-6)
        assert np.count_nonzero(alone) == len(PAIRS)


def test_a_heads_contribution_is_the_sum_of_its_elements(
    chat: Any, kept: Screen, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(chat))
    by_head = kept.units(gates).reshape(len(PAIRS), len(gates.layers), gates.shape.n_heads, -1).sum(axis=-1)
    table = kept.heads(gates)
    np.testing.assert_allclose(np.diagonal(table, axis1=2, axis2=3), by_head, rtol=1e-4, atol=1e-5)
    within = kept.dimensions(gates)
    diagonal = np.diagonal(within, axis1=2, axis2=3).sum(axis=-1)
    np.testing.assert_allclose(diagonal, by_head.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_row_flips_flip_their_units_and_nothing_else(chat: Any, kept: Screen, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    null = null_gates(gates, family="row-sign", seed=3)
    signs = np.stack([np.sign((null.gate(n).bias * gates.gate(n).bias).detach().numpy()) for n in gates.layers])
    assert {-1.0, 1.0} == set(np.unique(signs))
    np.testing.assert_allclose(kept.units(null), kept.units(gates) * signs, rtol=1e-6)


def test_tables_say_what_exchanged_heads_and_dimensions_would_do(
    chat: Any, kept: Screen, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(chat))
    heads, d_head = gates.shape.n_heads, gates.shape.d_head
    order = np.random.default_rng(0)
    by_heads, by_dimensions = copy.deepcopy(gates), copy.deepcopy(gates)
    expected_heads, expected_dimensions = 0.0, 0.0
    table, within = kept.heads(gates), kept.dimensions(gates)
    with torch.no_grad():
        for k, layer in enumerate(gates.layers):
            source = order.permutation(heads)
            rows = np.concatenate([np.arange(j * d_head, (j + 1) * d_head) for j in source])
            expected_heads += table[:, k, np.arange(heads), source].sum(axis=1)
            inside = [order.permutation(d_head) for _ in range(heads)]
            mixed = np.concatenate([h * d_head + inside[h] for h in range(heads)])
            expected_dimensions += sum(within[k, h, np.arange(d_head), inside[h]].sum() for h in range(heads))
            for changed, index in ((by_heads, rows), (by_dimensions, mixed)):
                gate = changed.gate(layer)
                assert gate.weight is not None
                gate.bias.copy_(gate.bias[index].clone())
                gate.weight.copy_(gate.weight[index].clone())
    np.testing.assert_allclose(kept.effects(by_heads), expected_heads, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept.effects(by_dimensions).mean(), expected_dimensions, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gaussian", "layer-permutation", "other-prompt", "static-mean", "dampener"])
def test_gates_that_share_nothing_with_the_learned_ones_are_screened_too(
    chat: Any, kept: Screen, family: str, shaken: Callable[..., GateSet]
) -> None:
    neutral = neutral_inputs(chat, collate([encode_text(chat, "The harbour was quiet. A letter came at noon.")]))
    null = null_gates(shaken(GateSet.identity(chat)), family=family, seed=2, batch=neutral)
    step = 1e-3
    slope = (margin(chat, null, step) - margin(chat, null, -step)) / (2 * step)
    np.testing.assert_allclose(kept.effects(null), slope, rtol=0.02, atol=0.02 * np.abs(slope).max())
    assert np.abs(slope).max() > 0.01


def test_strength_zero_and_scale_are_linear_and_negation_is_minus(
    chat: Any, kept: Screen, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(chat))
    np.testing.assert_allclose(kept.effects(gates.negated()), -kept.effects(gates), rtol=1e-12)
    np.testing.assert_allclose(kept.effects(gates.scaled(0.25)), 0.25 * kept.effects(gates), rtol=1e-6)
    assert np.count_nonzero(kept.effects(GateSet.identity(chat))) == 0


@pytest.mark.parametrize("strength", [-1.0, 1.0, 2.0])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_integrated_parts_add_up_to_the_true_change(
    chat: Any, strength: float, granularity: str, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(chat, granularity), size=0.05)
    change = margin(chat, gates, strength) - margin(chat, gates, 0.0)
    found = integrated_attribution(chat, gates, PAIRS, ANSWERS, strength=strength, label=None)
    error = np.abs(found.sum(axis=(1, 2)) - change)
    assert (error <= np.maximum(0.02 * np.abs(change), 0.01)).all(), (error, change)
    assert np.abs(change).max() > 0.05


def test_more_nodes_come_closer_to_the_true_change_of_strong_gates(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    change = margin(chat, gates, 1.0) - margin(chat, gates, 0.0)
    errors = [
        np.abs(integrated_attribution(chat, gates, PAIRS, ANSWERS, nodes=n, label=None).sum(axis=(1, 2)) - change).max()
        for n in (1, 4, 24)
    ]
    assert errors[2] < 0.02 * np.abs(change).max() < errors[0]
    assert errors[2] < errors[1] < errors[0]


def test_integration_over_a_short_way_is_the_first_order(
    chat: Any, kept: Screen, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(chat))
    short = integrated_attribution(chat, gates, PAIRS, ANSWERS, strength=1e-4, nodes=1, label=None) / 1e-4
    first = kept.units(gates)
    np.testing.assert_allclose(short, first, rtol=0.01, atol=1e-3 * np.abs(first).max())


def test_batches_other_pairs_and_views_change_nothing(chat: Any, kept: Screen, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    units = kept.units(gates)
    close = {"rtol": 1e-3, "atol": 1e-4 * np.abs(units).max()}
    one = screen(chat, PAIRS, ANSWERS, batch_size=1, label=None).units(gates)
    np.testing.assert_allclose(one, units, **close)
    few = screen(chat, PAIRS[1:3], ANSWERS, layers=[1], label=None)
    part = shaken(GateSet.identity(chat, layers=[1]))
    with torch.no_grad():
        part.gate(1).bias.copy_(gates.gate(1).bias)
        part.gate(1).weight.copy_(gates.gate(1).weight)  # type: ignore[union-attr]
    np.testing.assert_allclose(few.units(part)[:, 0], units[1:3, 1], **close)


def test_the_model_is_left_as_it_was(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    before = stance_margins(chat, PAIRS, ANSWERS, label=None)
    screen(chat, PAIRS, ANSWERS, label=None)
    integrated_attribution(chat, gates, PAIRS, ANSWERS, nodes=1, label=None)
    np.testing.assert_array_equal(stance_margins(chat, PAIRS, ANSWERS, label=None), before)
    assert all(p.grad is None for p in (*chat.original_model.parameters(), *gates.parameters()))


def test_bad_input_is_one_clear_error(chat: Any, kept: Screen, shaken: Callable[..., GateSet]) -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        screen(chat, [], ANSWERS, label=None)
    with pytest.raises(InputError, match="at least one node"):
        integrated_attribution(chat, GateSet.identity(chat), PAIRS, ANSWERS, nodes=0, label=None)
    with pytest.raises(InputError, match="no heads to exchange"):
        kept.heads(GateSet.identity(chat, "layer"))
    few = screen(chat, PAIRS[:1], ANSWERS, layers=[0], label=None)
    with pytest.raises(InputError, match=r"layers that were not kept.*\[1, 2\]"):
        few.effects(shaken(GateSet.identity(chat)))


@pytest.mark.parametrize("order", [[2], [3, 0], [0, 1, 2, 3], [1, 3, 2]])
def test_the_screen_of_some_prompts_says_of_them_what_the_whole_says(
    chat: Any, kept: Screen, shaken: Callable[..., GateSet], order: list[int]
) -> None:
    part = kept.only(order)
    assert part.n_prompts == len(order)
    gates = shaken(GateSet.identity(chat))
    np.testing.assert_allclose(part.units(gates), kept.units(gates)[order])
    np.testing.assert_allclose(part.effects(gates), kept.effects(gates)[order])
    np.testing.assert_allclose(part.heads(gates), kept.heads(gates)[order])
    alone = [kept.only([i]).dimensions(gates) for i in order]
    np.testing.assert_allclose(part.dimensions(gates), np.mean(alone, axis=0), rtol=1e-4, atol=1e-6)
    batch = collate([encode_text(chat, "The harbour was quiet."), encode_text(chat, "A letter came.")])
    donor = null_gates(gates, family="other-prompt", seed=0, batch=neutral_inputs(chat, batch))
    np.testing.assert_allclose(part.effects(donor), kept.effects(donor)[order])  # positions go with their prompts
    assert part.only(range(len(order))[::-1]).effects(gates).tolist() == part.effects(gates)[::-1].tolist()


@pytest.mark.parametrize("order", [[], [0, 0], [4], [-1], [0, 7]])
def test_prompts_that_are_not_there_or_named_twice_are_refused(kept: Screen, order: list[int]) -> None:
    with pytest.raises(InputError, match="not prompts of the screen"):
        kept.only(order)
