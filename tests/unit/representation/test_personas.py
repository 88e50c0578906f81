"""Laws of the whole comparison: everything is said, measured once, disjoint facts for hosts, and vectors that can be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mechgate.data.traits import load_trait, trait_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.activations import activations
from mechgate.measure.margins import stance_margins
from mechgate.measure.personas import read_personas, vector_file
from mechgate.model.sites import shape_of
from mechgate.model.steering import SteeringDial
from mechgate.representation.comparison import matched_claims, null_arms
from mechgate.representation.persona_tables import PersonaSettings, PersonaTables
from mechgate.representation.personas import CLAIMS, personas, told
from mechgate.stages import Stages

FEW: dict[str, Any] = dict(instructions=2, questions=3, max_new_tokens=6, steer_questions=2, facts=32, nulls=1)
LITTLE = PersonaSettings(traits=("sycophancy", "humour"), permutations=99, **FEW)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    """A tiny chat model with room for the shipped texts."""
    return tiny_chat_model(tmp_path_factory.mktemp("model"), max_position_embeddings=4096)


@pytest.fixture(scope="module")
def gates(model: Any, shaken: Callable[..., GateSet]) -> dict[str, GateSet]:
    return {str(seed): shaken(GateSet.identity(model), seed=seed) for seed in (0, 1)}


def test_a_whole_run_says_everything_and_measures_once(
    model: Any, gates: dict[str, GateSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, options = {"0": gates["0"]}, dict[str, Any](settings=LITTLE, folder=tmp_path, say=lambda text: None)
    options |= {"controls": {"other": gates["1"]}, "hosts": {"host": model}}
    numbers = personas(model, own, **options)
    names, arms = {"sycophancy", "humour", "host minus base"}, {"0", "other", "row-sign 0", "haar 0", "dampener"}
    assert set(numbers["directions"]) == set(numbers["between"]) == names
    assert set(numbers["write"]) == set(numbers["read"]) == arms
    assert set(numbers["write"]["0"]["humour"]) == {"response_avg", "prompt_last"}
    assert set(numbers["detect"]) == set(numbers["verdicts"]) == {"0", "other"}
    assert set(numbers["detect"]["0"]) == {CLAIMS, "sycophancy", "humour"}
    assert numbers["facts"] == 16  # the other half is the host's
    assert numbers["verdicts"]["0"]["write"]["host minus base"]["verdict"] == "cannot be told"  # the host is the base
    assert len(told(numbers)) == 3 + 2 * (3 + 3 + 3)
    monkeypatch.setattr("mechgate.representation.persona_tables.activations_at", lambda *a, **k: pytest.fail("again"))
    monkeypatch.setattr("mechgate.representation.persona_tables.stance_margins", lambda *a, **k: pytest.fail("again"))
    assert personas(model, own, **options) == numbers
    for variant in ("response_avg", "prompt_last"):
        found = read_personas(vector_file(tmp_path / "vectors", "humour", variant), shape_of(model))
        size = numbers["directions"]["humour"]["variants"][variant]["length"]
        np.testing.assert_allclose(np.linalg.norm(found.vectors[1:], axis=1), size, rtol=1e-4)


@pytest.fixture
def tables(model: Any, gates: dict[str, GateSet], tmp_path: Path) -> PersonaTables:
    return PersonaTables(model, gates, {"host": model}, {}, LITTLE, Stages(tmp_path, lambda text: None))


def test_hosts_directions_are_of_other_facts_than_displacements(tables: PersonaTables) -> None:
    ours, theirs = ({pair.fact_id for pair in pairs} for pairs in (tables.sides["false"], tables.apart))
    assert len(ours) == len(theirs) == 16
    assert not ours & theirs
    assert [p.fact_id for p in tables.sides["false"]] == [p.fact_id for p in tables.sides["true"]]
    assert (tables.host_direction("host").write["difference of means"] == 0).all()


def test_displacements_are_gated_minus_base(model: Any, gates: dict[str, GateSet], tables: PersonaTables) -> None:
    base = activations(model, tables.sides["true"], label=None)
    with gates["1"].attached(model, -1.0):
        expected = activations(model, tables.sides["true"], label=None) - base
    np.testing.assert_allclose(tables.moved("1", "true"), expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected).max() > 0


def test_steering_is_half_the_difference_between_along_and_against(model: Any, tables: PersonaTables) -> None:
    trait, generator = load_trait("humour"), np.random.default_rng(0)
    vector, pool = generator.standard_normal(32).astype(np.float32), generator.standard_normal((30, 32))
    rows = tables.steered(trait, vector, pool)
    assert rows.shape == (20, 2)
    levels = []
    for strength in (1.0, -1.0):
        with SteeringDial({1: vector}).attached(model, strength):
            levels.append(stance_margins(model, trait_pairs("humour")[:2], trait.answers, label=None).mean(axis=1))
    np.testing.assert_allclose(rows[0], (levels[0] - levels[1]) / 2, atol=1e-4)


def test_claims_are_matched_and_nulls_are_named(model: Any, gates: dict[str, GateSet]) -> None:
    false, true = matched_claims("test", 40)
    assert [pair.fact_id for pair in false] == [pair.fact_id for pair in true]
    assert len({pair.domain for pair in false}) > 1
    with pytest.raises(InputError, match="at least 32 facts"):
        matched_claims("test", 8)
    found = null_arms(
        model, gates["0"], ["Snow fell all night."], draws={"row-sign": 2, "haar": 1}, purpose="x", seed=0
    )
    assert list(found) == ["row-sign 0", "row-sign 1", "haar 0", "dampener"]
    assert found["row-sign 0"].history["seed"] != found["row-sign 1"].history["seed"]


def test_what_cannot_be_asked_is_an_error(model: Any, gates: dict[str, GateSet], tmp_path: Path) -> None:
    for given in ({}, gates):
        with pytest.raises(InputError, match="need gates"):
            personas(model, given, controls=gates, folder=tmp_path)
    for wrong in ({"traits": ("pride",)}, {"facts": 8}, {"position": "first"}, {"layer": 3}, {"traits": ()}):
        with pytest.raises(ValidationError):
            PersonaSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="steer_layer"):
        PersonaTables(model, gates, {}, {}, PersonaSettings(steer_layer=3), Stages(tmp_path, lambda text: None))
