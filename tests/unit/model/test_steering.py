"""Laws of steering and ablation as dials: 0 is the base bit for bit, nothing is left along an ablated direction."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.pairs import Pair
from mechgate.errors import HookError, InputError, ModelError
from mechgate.measure.activations import activations
from mechgate.measure.margins import stance_margins
from mechgate.model import hooking
from mechgate.model.dials import Dial
from mechgate.model.steering import AblationDial, SteeringDial

LAYERS = (0, 2)
DIALS = (SteeringDial, AblationDial)


def vectors(d: int = 32, seed: int = 0) -> dict[int, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {layer: 3 * generator.standard_normal(d) for layer in LAYERS}


def resid(model: Any, tokens: torch.Tensor, layer: int, dial: Dial | None = None, strength: float = 0.0) -> Any:
    """What stands after a block, seen by a hook that is attached after the dial's."""
    kept = {}
    name = f"blocks.{layer}.hook_resid_post"
    watch: dict[str, hooking.Hook] = {name: lambda value: kept.update(x=value.detach().clone())}
    if dial is None:
        with hooking.attached(model, watch):
            model(tokens)
    else:
        with dial.attached(model, strength), hooking.attached(model, watch):
            model(tokens)
    return kept["x"]


@pytest.mark.parametrize("kind", DIALS)
def test_strength_0_is_the_base_bit_for_bit_and_others_are_not(bridge: Any, tokens: Any, kind: Callable) -> None:
    base, dial = bridge(tokens), kind(vectors())
    with dial.attached(bridge, 0.0) as firings:
        assert torch.equal(bridge(tokens), base)
    assert firings.silent() == []
    assert set(firings) == {f"blocks.{layer}.hook_resid_post" for layer in LAYERS}
    with dial.attached(bridge, 0.5):
        assert (bridge(tokens) - base).abs().max() > 1e-3
    assert torch.equal(bridge(tokens), base)


@pytest.mark.parametrize("strength", [-2.0, 1.0])
def test_steering_adds_the_vector_at_every_token(bridge: Any, tokens: Any, strength: float) -> None:
    dial = SteeringDial({0: vectors()[0]})
    moved = resid(bridge, tokens, 0, dial, strength) - resid(bridge, tokens, 0)
    wanted = torch.tensor(strength * vectors()[0], dtype=torch.float32).expand_as(moved)
    assert (moved - wanted).abs().max() <= 1e-4


def test_nothing_is_left_along_an_ablated_direction_and_the_rest_stays(bridge: Any, tokens: Any) -> None:
    direction = vectors()[0]
    before, after = resid(bridge, tokens, 0), resid(bridge, tokens, 0, AblationDial({0: direction}), 1.0)
    unit = torch.tensor(direction / np.linalg.norm(direction), dtype=torch.float32)
    assert (after @ unit).abs().max() <= 1e-5 * before.norm(dim=-1).max()
    rest = before - (before @ unit)[..., None] * unit
    assert (after - rest).abs().max() <= 1e-4
    half = resid(bridge, tokens, 0, AblationDial({0: 100 * direction}), 0.5)
    assert (half - (before + after) / 2).abs().max() <= 1e-4


def test_where_response_leaves_prompts_as_they_are(chat: Any) -> None:
    pair = Pair(
        id="a",
        domain="all",
        messages=({"role": "user", "content": "cats bark"},),
        matching="Yes, so it is.",
        not_matching="No, it is not.",
        fact_id="a",
        kind="all",
    )
    dial = SteeringDial(vectors(), where="response")
    answers = [(pair.matching, pair.not_matching)]
    base = stance_margins(chat, [pair], answers, label=None)
    with dial.attached(chat, 1.0):
        assert abs(stance_margins(chat, [pair], answers, label=None) - base).max() > 1e-3
        prompt = activations(chat, [pair], label=None)
    np.testing.assert_array_equal(prompt, activations(chat, [pair], label=None))
    with pytest.raises(HookError, match="roles"), dial.attached(chat, 1.0):
        chat(torch.tensor([[3, 4, 5]]))


def test_what_is_no_direction_is_an_error(bridge: Any, tokens: Any) -> None:
    for wrong in ({}, {0: np.zeros(32)}, {0: np.full(32, np.nan)}, {0: np.ones((2, 32))}):
        with pytest.raises(InputError, match="direction"):
            SteeringDial(wrong)
    with pytest.raises(ModelError, match="width"), SteeringDial({0: np.ones(31)}).attached(bridge):
        bridge(tokens)
    with pytest.raises(InputError, match="layers"), SteeringDial({3: np.ones(32)}).attached(bridge):
        bridge(tokens)
    with pytest.raises(InputError, match="finite"), AblationDial(vectors()).attached(bridge, float("nan")):
        bridge(tokens)
    with pytest.raises(HookError, match="never fired"), AblationDial(vectors()).attached(bridge, 1.0):
        pass
