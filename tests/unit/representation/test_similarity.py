"""Laws of whole similarity runs on a tiny model: planted gates are found, dampeners are not, nothing is done twice."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.factorial import Factorial, claims_design, responses_design
from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.activations import activations
from mechgate.report.results import read_result
from mechgate.representation.arms import Arms
from mechgate.representation.settings import SimilaritySettings, settings_of
from mechgate.representation.similarity import similarity
from mechgate.stages import Stages

QUICK: dict[str, Any] = dict(
    strengths=(1.0,), positions=("last",), folds=2, permutations=99, draws=300, probe_controls=1, neutral_texts=2
)
MARKS = (" @@@@@@@@", " ########")


def marked(design: Factorial) -> Factorial:
    """The same prompts with another mark of the same length at the end of unsafe and of safe ones, read as the claim."""
    prompts = []
    for i, prompt in enumerate(design.prompts):
        assert isinstance(prompt, Pair)
        last = {**prompt.messages[-1], "content": prompt.messages[-1]["content"] + MARKS[i % 2]}
        prompts.append(replace(prompt, messages=(*prompt.messages[:-1], last), claim=MARKS[i % 2].strip()))
    return replace(design, prompts=tuple(prompts), positions=("claim",))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    return tiny_chat_model(tmp_path_factory.mktemp("similar") / "model", max_position_embeddings=1024)


@pytest.fixture(scope="module")
def claims() -> Factorial:
    return claims_design(facts=12, phrasings=2)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    """A model that is wide enough for tokens to have directions of their own."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    return tiny_chat_model(folder, max_position_embeddings=1024, hidden_size=256)


def opening_on(model: Any, token: str) -> GateSet:
    """Gates of the first layer that open on one token: the direction is what sets it apart from all the others."""
    gates = GateSet.identity(model, layers=[0])
    _, cache = model.run_with_cache(torch.arange(3, len(model.tokenizer))[:, None])
    read = cache["blocks.0.attn.hook_in"][:, 0]
    (at,) = model.tokenizer(token, add_special_tokens=False).input_ids
    direction = torch.linalg.solve(read.T @ read + 0.1 * torch.eye(read.shape[1]), read[at - 3])
    with torch.no_grad():
        weight = gates.gate(0).weight
        assert weight is not None
        weight.copy_((8 * direction / (direction @ read[at - 3])).expand_as(weight))
    return gates


@pytest.fixture(scope="module")
def planted(model: Any) -> GateSet:
    return opening_on(model, "@")


@pytest.fixture(scope="module")
def dampener(model: Any) -> GateSet:
    gates = GateSet.identity(model, "layer", input="static")
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.fill_(-0.6)
    return gates


def run(model: Any, gates: Any, design: Factorial, **more: Any) -> dict[str, Any]:
    values = QUICK | {name: more.pop(name) for name in list(more) if name in SimilaritySettings.model_fields}
    return similarity(model, gates, settings=settings_of(**values), designs=[design], say=lambda _: None, **more)


def test_gates_that_act_on_unsafe_prompts_alone_are_found(wide: Any, claims: Factorial) -> None:
    gates, damp = opening_on(wide, "@"), GateSet.identity(wide, "layer", input="static")
    with torch.no_grad():
        damp.gate(0).bias.fill_(-0.6)
    more: dict[str, Any] = dict(positions=("claim",), null_families=("gaussian", "static-mean"), null_draws=2)
    found = run(wide, gates, marked(claims), controls={"dampener": [damp]}, **more)
    changes = found["contrasts"][0]["strengths"][0]["changes"]
    for change in changes.values():
        assert change["overall"]["low"] > 0
        assert change["overall"]["p"] < 0.01
        assert "unsafe prompts change more" in change["reason"]
        assert change["outcome"] == "selective"


def test_sign_flips_of_what_gates_write_open_on_the_same_tokens_and_are_no_null_of_what_they_read(
    wide: Any, claims: Factorial
) -> None:
    found = run(wide, opening_on(wide, "@"), marked(claims), positions=("claim",), null_families=("row-sign",))
    for change in found["contrasts"][0]["strengths"][0]["changes"].values():
        assert change["overall"]["low"] > 0
        (rival,) = change["rivals"]["null"].values()
        assert rival["share"] > 0.5 * change["share"]["value"]


def test_a_dampener_is_not_called_selective_where_sides_differ_for_another_reason(
    model: Any, dampener: GateSet, claims: Factorial
) -> None:
    """One mark's activations are moved more than another's by any gates: the static mean is moved as far."""
    found = run(model, dampener, marked(claims), positions=("claim",), null_families=("static-mean",))
    changes = found["contrasts"][0]["strengths"][0]["changes"]
    assert any(change["overall"]["low"] > 0 or change["overall"]["high"] < 0 for change in changes.values())
    for change in changes.values():
        assert change["outcome"] in ("not selective", "cannot be told", "no change")


def test_a_dampener_is_not_called_selective(model: Any, dampener: GateSet, claims: Factorial) -> None:
    found = run(model, dampener, claims, null_families=("row-sign",), null_draws=2)
    entry = found["contrasts"][0]["strengths"][0]
    assert min(entry["changes"]["size"]["unsafe"]) > 0.01  # it does act
    for change in entry["changes"].values():
        assert change["outcome"] in ("not selective", "cannot be told", "no change")


def test_numbers_name_everything_and_are_plain_json(model: Any, planted: GateSet, claims: Factorial) -> None:
    found = run(model, planted, claims, positions=("last", "claim", "response"), strengths=(-1.0, 1.0))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [c["position"] for c in found["contrasts"]] == ["last", "claim", "response"]
    for contrast in found["contrasts"]:
        assert [entry["strength"] for entry in contrast["strengths"]] == [-1, 1]
        assert contrast["notes"] == ["CKA on fewer than 200 prompts"]
        for entry in contrast["strengths"]:
            assert {len(change["unsafe"]) for change in entry["changes"].values()} == {3}
            assert len(entry["geometry"]["panels"]["before"]) == 276
            assert set(entry["probes"]["tasks"]) == {"side", "side transfer", "stance", "stance transfer"}
            assert entry["behaviour"]["unsafe"]["n"] == 12
    assert {(d["kind"], d["strength"]) for d in found["doses"]} == {("null", -1), ("null", 1)}


def test_rivals_are_compared_at_the_strength_of_equal_kl(
    model: Any, planted: GateSet, dampener: GateSet, tmp_path: Path
) -> None:
    settings = settings_of(**QUICK | {"null_families": ("row-sign",), "null_draws": 2})
    arms = Arms(model, {"g": planted}, {"damp": {"d": dampener}}, settings, Stages(tmp_path, lambda _: None))
    found = arms.all()
    assert [arm.kind for arm in found].count("gates") == 1
    wanted = arms._kl("g", planted, 1.0)
    for dose in arms.doses:
        assert (abs(dose["KL"] / wanted - 1) < 0.06) == ("dose" in dose)
    assert len(found) + len(arms.unmatched) == 1 + 2 + 1


def test_responses_have_a_design_without_stance(model: Any, planted: GateSet) -> None:
    design = responses_design(questions=32)
    found = run(model, planted, design, positions=("response",), null_draws=0)
    entry = found["contrasts"][0]["strengths"][0]
    assert entry["behaviour"] is None
    assert set(entry["probes"]["tasks"]) == {"side", "side transfer"}
    assert "phrasing" not in entry["geometry"]["models"]["rdm"]
    assert not any(
        change["outcome"] in ("selective", "partly selective", "beyond nulls") for change in entry["changes"].values()
    )  # nothing to compare with


def test_gates_that_do_nothing_change_nothing(model: Any, claims: Factorial) -> None:
    found = run(model, GateSet.identity(model), claims)
    entry = found["contrasts"][0]["strengths"][0]
    assert all(change["outcome"] == "no change" for change in entry["changes"].values())
    np.testing.assert_allclose(entry["geometry"]["kept"], 1)
    assert entry["behaviour"]["unsafe"]["value"] == 0
    assert all("leave neutral text as it is" in why for why in found["unmatched"].values())


def test_a_second_run_measures_nothing_and_gives_the_same(
    model: Any, planted: GateSet, claims: Factorial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(model, planted, claims, folder=tmp_path)
    assert read_result(tmp_path / "similarity.json")["numbers"]["contrasts"] == first["contrasts"]
    assert (tmp_path / "prereg.yaml").is_file()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    for name in ("activations", "stance_margins"):
        monkeypatch.setattr(f"mechgate.representation.measure.{name}", never)
    again = run(model, planted, claims, folder=tmp_path)
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in first.items() if k != "seconds"}


def test_at_most_two_sets_of_activations_are_held_and_prompts_keep_their_order(
    model: Any, planted: GateSet, claims: Factorial, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import weakref

    alive: list[Any] = []

    def watched(*arguments: Any, **options: Any) -> np.ndarray:
        found = activations(*arguments, **options)
        gc.collect()
        alive[:] = [reference for reference in alive if reference() is not None]
        assert len(alive) <= 2
        alive.append(weakref.ref(found))
        return found

    monkeypatch.setattr("mechgate.representation.measure.activations", watched)
    run(model, planted, claims, positions=("last", "claim"), null_draws=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(strengths=(0.0,)), "other than 0"),
        (dict(null_families=("sign",)), "unknown null families"),
        (dict(positions=("first",)), "token roles"),
        (dict(folds=1), "folds"),
        (dict(fact=3), "fact"),
    ],
)
def test_settings_that_cannot_be_used_are_one_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings_of(**change)


def test_bad_input_is_refused_before_anything_is_measured(model: Any, planted: GateSet, claims: Factorial) -> None:
    for gates, more, message in (
        ({}, {}, "needs gates"),
        ({"a": planted}, {"controls": {"task": {"a": planted}}}, "names of their own"),
        (planted, {"positions": ("mean",)}, "nothing to compare"),
        (planted, {"folds": 3}, "folds"),
        (planted, {"layers": (7,)}, "layers"),
    ):
        with pytest.raises(InputError, match=message):
            run(model, gates, claims, **more)
