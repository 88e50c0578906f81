"""Laws of interventions at equal efficacy: doses are matched on development facts, and what is told is what was measured."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mechgate.analysis.behaviour import Arm, Material, collect
from mechgate.data.pairs import with_system
from mechgate.errors import DataError, InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.capability import four_choice
from mechgate.measure.personas import PersonaVectors, save_personas
from mechgate.model.steering import AblationDial, SteeringDial
from mechgate.referee.baselines import Intervention, baselines, persona_ways
from mechgate.stages import Stages

TOLD = "Be honest."


def effect(model: Any, material: Material, side: str, **arm: Any) -> float:
    start, rows = (collect("stance", model, material, [one]) for one in (Arm(), Arm(**arm)))
    moved = rows["value"] - start["value"]
    return float(moved[rows["set"] == side].mean())


@pytest.fixture
def gates(chat: Any, turned: Callable[..., GateSet], material: Material) -> GateSet:
    """Gates that lower the wanted side at strength -1."""
    found = turned(size=0.3)
    return found if effect(chat, material, "wanted", gates=found, strength=-1.0) < 0 else found.negated()


@pytest.fixture(scope="module")
def material(small_material: Callable[..., Material]) -> Material:
    return small_material(facts=7)


@pytest.fixture
def run(chat: Any, material: Material, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def made(ways: list[Intervention], **options: Any) -> dict[str, Any]:
        return baselines(chat, ways, material, material, Stages(tmp_path, lambda text: None), **options)

    return made


def way(name: str, model: Any, dial: Any = None, seed: str = "0", **more: Any) -> Intervention:
    return Intervention(name=name, seed=seed, model=model, dial=dial, key=name, **more)


def test_a_scaled_dial_is_matched_at_the_strength_that_undoes_its_scale(chat: Any, gates: GateSet, run: Any) -> None:
    ways = [way("gates", chat, gates, strength=-1.0), way("half", chat, gates.scaled(-0.5))]
    found = run(ways)["ways"]
    assert found["half"]["doses"]["0"]["strength"] == pytest.approx(2.0, rel=0.05)
    for measure in ("effect", "side_effect"):
        ends = [found[name]["axis"][measure]["value"] for name in ("gates", "half")]
        assert ends[1] == pytest.approx(ends[0], rel=0.05, abs=0.01)


def test_numbers_are_the_changes_on_the_test_facts(chat: Any, gates: GateSet, material: Material, run: Any) -> None:
    numbers = run([way("gates", chat, gates, strength=-1.0)])
    entry = numbers["ways"]["gates"]
    for measure, side in (("effect", "wanted"), ("side_effect", "unwanted")):
        told = effect(chat, material, side, gates=gates, strength=-1.0)
        assert entry["axis"][measure]["value"] == pytest.approx(told, abs=1e-5)
        assert entry["sets"]["0"][side] == pytest.approx(told, abs=1e-5)
    assert numbers["wanted"] == pytest.approx(-entry["axis"]["effect"]["value"], abs=1e-5)
    neutral = collect("neutral", chat, material, [Arm(), Arm(gates=gates, strength=-1.0)])
    start, moved = (neutral[(neutral["strength"] == s) & (neutral["set"] == "chat")] for s in (0.0, -1.0))
    ratio = float(np.exp((moved["nll"].to_numpy() - start["nll"].to_numpy()) / start["tokens"].to_numpy()).prod())
    assert entry["spared"]["perplexity ratio, chat"]["value"] == pytest.approx(ratio ** (1 / len(start)), rel=1e-5)
    assert entry["spared"]["KL, chat"]["value"] == pytest.approx(moved["kl"].sum() / moved["tokens"].sum(), rel=1e-5)


def test_a_dial_that_does_nothing_cannot_be_matched_and_says_why(chat: Any, gates: GateSet, run: Any) -> None:
    found = run([way("gates", chat, gates, strength=-1.0), way("idle", chat, GateSet.identity(chat))])["ways"]["idle"]
    assert found["axis"] is None
    assert found["unmatched"] == ["0: effect 0 even at -20"] or found["unmatched"] == ["0: effect 0 even at +20"]


def test_a_message_is_before_every_conversation_and_has_no_dose_and_no_kl(
    chat: Any, gates: GateSet, material: Material, run: Any
) -> None:
    entry = run([way("gates", chat, gates, strength=-1.0), way("told", chat, system=TOLD)])["ways"]["told"]
    assert (entry["doses"]["0"]["strength"], entry["spared"]["KL, chat"], entry["unmatched"]) == (None, None, [])
    told = {side: [with_system(pair, TOLD) for pair in pairs] for side, pairs in material.stance.items()}
    rows, start = (collect("stance", chat, m, [Arm()]) for m in (replace(material, stance=told), material))
    moved = (rows["value"] - start["value"])[rows["set"] == "wanted"].mean()
    assert entry["axis"]["effect"]["value"] == pytest.approx(float(moved), abs=1e-5)
    assert abs(moved) > 1e-4


@pytest.mark.parametrize("measure", ["stance", "answers", "items", "neutral", "replies"])
def test_a_system_message_reaches_every_measure(chat: Any, material: Material, measure: str) -> None:
    some = replace(material, replies={"all": material.stance["wanted"][:2]}, max_new_tokens=4)
    plain, told = (collect(measure, chat, m, [Arm()]) for m in (some, replace(some, system=TOLD)))
    column = {"neutral": "nll", "replies": "reply"}.get(measure, "value")
    same = plain[column].to_numpy() == told[column].to_numpy()
    if measure == "neutral":  # plain text is no conversation
        assert same[(plain["set"] == "prose").to_numpy()].all()
        same = same[(plain["set"] == "chat").to_numpy()]
    assert not same.all()


def test_items_are_asked_after_the_message(chat: Any, material: Material) -> None:
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(
            four_choice(chat, material.items).margin, four_choice(chat, material.items, system=TOLD).margin
        )


def test_a_second_system_message_and_none_are_errors(material: Material) -> None:
    pair = material.stance["wanted"][0]
    told = with_system(pair, TOLD)
    assert (told.messages[0], told.messages[1:]) == ({"role": "system", "content": TOLD}, pair.messages)
    with pytest.raises(DataError, match="system message"):
        with_system(told, TOLD)
    with pytest.raises(DataError, match="system message"):
        with_system(pair, " ")


def test_everything_is_measured_once(chat: Any, gates: GateSet, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [
        way("gates", chat, gates, strength=-1.0),
        way("half", chat, gates.scaled(0.5)),
        way("told", chat, system=TOLD),
    ]
    first = run(ways)
    monkeypatch.setattr("mechgate.referee.baselines.collect", lambda *a, **k: pytest.fail("measured again"))
    assert str(run(ways)) == str(first)  # as text: a message's dose is not a number


def test_no_reference_and_one_that_goes_the_other_way_are_errors(chat: Any, gates: GateSet, run: Any) -> None:
    with pytest.raises(InputError, match="fixed strength"):
        run([way("half", chat, gates)])
    with pytest.raises(InputError, match="does not move"):
        run([way("gates", chat, gates, strength=-1.0)], direction=1)
    for wrong in ({}, {"dial": gates, "system": TOLD}, {"system": TOLD, "strength": 1.0}):
        with pytest.raises(InputError, match="a dial or a system message"):
            way("wrong", chat, **wrong)


def test_a_persona_vector_is_steered_behind_one_block_and_ablated_behind_all(chat: Any, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    found = PersonaVectors(trait="evil", variant="response_avg", vectors=vectors)
    path = save_personas(found, tmp_path)
    steering, ablation = persona_ways(chat, path)
    assert (steering.name, steering.seed) == ("steering", "evil-layer-1")
    assert isinstance(steering.dial, SteeringDial)
    assert isinstance(ablation.dial, AblationDial)
    assert list(steering.dial.vectors) == [1]
    np.testing.assert_array_equal(steering.dial.vectors[1], vectors[2])
    assert [list(vector) for vector in ablation.dial.vectors.values()] == [list(vectors[2])] * 3
    assert persona_ways(chat, path, 0)[0].key != steering.key


def test_steering_is_matched_as_any_dial_is(
    chat: Any, gates: GateSet, material: Material, run: Any, tmp_path: Path
) -> None:
    vectors = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
    steering, _ = persona_ways(
        chat, save_personas(PersonaVectors(trait="evil", variant="response_avg", vectors=vectors), tmp_path)
    )
    entry = run([way("gates", chat, gates, strength=-0.2), steering])["ways"]["steering"]
    (dose,) = entry["doses"].values()
    if dose["strength"] is None:
        assert entry["unmatched"]
    else:
        assert dose["reached"] == pytest.approx(dose["wanted"], rel=0.06)
        assert entry["axis"]["effect"]["value"] == pytest.approx(
            effect(chat, material, "wanted", gates=steering.dial, strength=dose["strength"]), abs=1e-3
        )
