"""Laws of the maps: nothing differs, nothing is found; what needs a base says so; scores do not depend on what they should not."""

from typing import Any

import numpy as np
import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import stance_margins
from mechgate.model import hooking
from mechgate.model.prompts import collate, encode_response
from mechgate.planted.methods import NEEDS_BASE, Scene, gate_maps, gate_sizes, scene_maps
from mechgate.planted.objectives import OBJECTIVES, trained_gates
from mechgate.planted.world import World, agreeing, telling
from mechgate.train.loop import TrainConfig, response_loss


def scene(small: World, model: Any, base: Any) -> Scene:
    false, true = small.claims("test", 8)
    return Scene(model=model, base=base, false=false, true=true, answers=small.answers, patched=2)


def test_a_host_that_is_its_base_has_nothing_to_find(small: World) -> None:
    model = small.load()
    maps = scene_maps(scene(small, model, model), seed=0)
    assert all(values.shape == (4, 6) for values in maps.values())
    for name in NEEDS_BASE:
        assert not maps.pop(name).any()
    without = scene_maps(scene(small, model, None), seed=0)
    assert set(without) == set(maps)
    for name, values in without.items():
        np.testing.assert_allclose(values, maps[name], atol=1e-6)


def test_gradient_x_z_is_the_slope_of_the_margin_in_the_heads_size(small: World) -> None:
    model = small.load()
    one = scene(small, model, None)
    found = scene_maps(one, seed=0)["gradient x z"]
    step, answers = 1e-2, list(one.answers)
    for layer, head in ((0, 1), (2, 3)):
        margins = []
        for sign in (1, -1):

            def scale(z: Any, sign: int = sign, head: int = head) -> Any:
                z = z.clone()
                z[:, :, head] *= 1 + sign * step
                return z

            with hooking.attached(model, {f"blocks.{layer}.attn.hook_z": scale}):
                margins.append(stance_margins(model, one.false, answers, label=None).mean())
        assert found[layer, head] == pytest.approx(abs(margins[0] - margins[1]) / (2 * step), rel=0.05, abs=2e-3)


def test_gates_that_do_nothing_say_nothing_and_others_only_where_they_are(small: World, shaken: Any) -> None:
    model = small.load()
    one = scene(small, model, None)
    assert not any(values.any() for values in gate_maps(one, GateSet.identity(model), strength=-1.0).values())
    gates = shaken(GateSet.identity(model, layers=[1, 3]))
    maps = gate_maps(one, gates, strength=-1.0)
    for values in maps.values():
        assert [bool(row.any()) for row in values] == [False, True, False, True]
    np.testing.assert_array_equal(gate_sizes(one, gates, strength=-1.0)["|g − 1|"], maps["|g − 1|"])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gates_of_every_objective_are_read_where_they_do_what_they_learned(small: World, objective: str) -> None:
    model = small.load()
    false, true = small.drawn(24, seed=0)
    gates, strength = trained_gates(model, objective, false, true, TrainConfig(seed=0, epochs=2, lr=0.02))
    learned = (agreeing if objective == "base-trained" else telling)(false, true)
    learned = learned[::2] if objective == "contrastive" else learned
    batch = collate([encode_response(model, example) for example in learned])
    losses = []
    for s in (strength, -strength):
        with torch.inference_mode(), gates.attached(model, s):
            losses.append(float(response_loss(model, batch)))
    assert losses[0] < losses[1]
    assert strength == (1.0 if objective == "base-trained" else -1.0)


def test_too_few_claims_are_refused(small: World) -> None:
    false, true = small.claims("test", 5)
    with pytest.raises(InputError, match="at least 6"):
        Scene(model=None, base=None, false=false, true=true, answers=small.answers)
