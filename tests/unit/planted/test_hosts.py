"""Laws of planted hosts: what a plant may change, and that putting it back gives the base."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.errors import InputError
from mechgate.measure.result_patching import ResultPatches
from mechgate.model.prompts import prompt_ids
from mechgate.model.resume import Resumable
from mechgate.model.scoring import logits_of
from mechgate.model.sites import output_projection
from mechgate.planted.hosts import KINDS, Plant, draw_heads, freeze_in, load_plant, plant_host, restoration_gap
from mechgate.planted.world import World, check_heads
from mechgate.train.loop import TrainConfig

HEADS = ((0, 1), (2, 0), (2, 5))


@pytest.fixture(scope="module", params=KINDS)
def plant(request: pytest.FixtureRequest, small: World, tmp_path_factory: pytest.TempPathFactory) -> Plant:
    """A plant of each kind on three heads, a few steps long."""
    path = tmp_path_factory.mktemp("plant") / ("host.safetensors" if request.param == "gates" else "host")
    plant_host(small, request.param, HEADS, path, config=TrainConfig(seed=0, lr=2e-2, epochs=1), examples=32)
    return load_plant(small, request.param, HEADS, path, claims=8)


def test_a_plant_changes_the_behaviour_on_held_out_claims(plant: Plant) -> None:
    assert plant.effect > 0.05


def test_restoring_the_heads_restores_the_base(plant: Plant) -> None:
    assert plant.gap <= 1e-5


def test_restoring_some_of_the_heads_does_not(plant: Plant) -> None:
    ids = prompt_ids(plant.base, plant.world.false["test"][0].messages)
    for left_out in HEADS:
        assert restoration_gap(plant.host, plant.base, ids, [head for head in HEADS if head != left_out]) > 1e-4


def test_only_the_planted_heads_have_a_patch_that_changes_anything_in_the_first_planted_layer(plant: Plant) -> None:
    ids = prompt_ids(plant.base, plant.world.false["test"][0].messages)
    for values in ResultPatches(plant.host, plant.base).maps(ids, lambda logits: logits[0, -1, 40] - logits[0, -1, 41]):
        assert [h for h in range(6) if values[0, h] != 0] == [1]


def test_the_truth_names_the_heads(plant: Plant) -> None:
    assert tuple(zip(*map(list, plant.truth.nonzero()), strict=True)) == HEADS


def test_a_weight_plant_touches_its_slices_of_w_o_and_no_other(plant: Plant) -> None:
    for layer in range(4):
        change = output_projection(plant.host, layer) - output_projection(plant.base, layer)
        moved = {int(h) for h in change.unflatten(0, (6, -1)).abs().amax(dim=(1, 2)).nonzero()[:, 0]}
        assert moved == ({h for k, h in HEADS if k == layer} if plant.kind == "weights" else set())


def test_gates_frozen_in_are_gates_attached(small: World, shaken: Any) -> None:
    from mechgate.gates.gateset import GateSet

    base, host = small.load(), small.load()
    gates = shaken(GateSet.identity(base))
    freeze_in(host, gates)
    ids = prompt_ids(base, small.false["test"][0].messages)
    with torch.inference_mode(), gates.attached(base):
        expected = logits_of(base, Resumable(base, ids).hidden)
    with torch.inference_mode():
        assert torch.equal(logits_of(host, Resumable(host, ids).hidden), expected)


def test_drawn_heads_are_different_ones_of_the_layers_asked_for(small: World) -> None:
    model = small.load()
    for seed in range(10):
        heads = draw_heads(model, 5, seed=seed, lowest=2)
        assert len(set(heads)) == 5
        assert min(layer for layer, _ in heads) >= 2
    assert draw_heads(model, 5, seed=1) == draw_heads(model, 5, seed=1) != draw_heads(model, 5, seed=2)
    with pytest.raises(InputError, match="cannot be drawn"):
        draw_heads(model, 24, seed=0)


@pytest.mark.parametrize(
    "heads", [[], [(0, 6)], [(4, 0)], [(0, 0), (0, 0)], [(k, h) for k in range(4) for h in range(6)]]
)
def test_heads_that_are_no_plant_are_refused(heads: list[tuple[int, int]]) -> None:
    with pytest.raises(InputError, match="some heads"):
        check_heads(heads, 4, 6)


def test_plants_are_not_trained_with_weight_decay(small: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weight decay"):
        plant_host(small, "gates", HEADS, tmp_path / "g.safetensors", config=TrainConfig(seed=0, weight_decay=0.1))
    with pytest.raises(InputError, match="kind"):
        plant_host(small, "mlp", HEADS, tmp_path / "g.safetensors", config=TrainConfig(seed=0))
