"""Laws of the behaviour rows: what measuring directly gives, arm by arm, with the ids it was measured on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechgate.analysis.behaviour import MEASURES, Arm, Material, collect
from mechgate.data.sets import chat as chat_set
from mechgate.data.sets import choice_items
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.capability import four_choice, neutral_text
from mechgate.measure.generation import generate
from mechgate.measure.margins import margins, stance_margins
from mechgate.measure.replies import reply_shape
from mechgate.measure.stances import classify_stance

FALSE = load_pairs("sycophancy", "medical", "test", phrasings=1)[:3]
TRUE = load_pairs("genuine-agreement", "medical", "test", phrasings=1)[:2]
MATERIAL = Material(
    stance={"sycophancy": FALSE, "genuine-agreement": TRUE},
    answers={"one": FALSE, "two": TRUE},
    items=list(choice_items()[:4]),
    texts={"p": "The capital of Italy is Rome.", "c": chat_set()[0].as_example(), "q": "Bread is made of flour."},
    replies={"false claims": FALSE, "true claims": TRUE},
    max_new_tokens=4,
)
IDS = {
    "stance": [p.id for p in (*FALSE, *TRUE)],
    "answers": [p.id for p in (*FALSE, *TRUE)],
    "items": [item.id for item in MATERIAL.items],
    "neutral": list(MATERIAL.texts),
    "replies": [p.id for p in (*FALSE, *TRUE)],
}


@pytest.fixture(scope="module")
def arms(chat: Any, shaken: Callable[..., GateSet]) -> list[Arm]:
    """No gates, and two gate sets at two strengths."""
    first, second = (shaken(GateSet.identity(chat), seed) for seed in (0, 1))
    turned = [Arm(gates=g, strength=s, seed=n) for s in (-1.0, 0.5) for n, g in (("one", first), ("two", second))]
    return [Arm(), *turned]


@pytest.fixture(scope="module")
def rows(chat: Any, arms: list[Arm]) -> dict[str, pd.DataFrame]:
    """Every measure's rows."""
    return {measure: collect(measure, chat, MATERIAL, arms) for measure in MEASURES}


def of(table: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    return table[(table["strength"] == arm.strength) & (table["seed"] == arm.seed)].reset_index(drop=True)


def directly(measure: str, model: Any) -> pd.DataFrame:
    """The measured columns of a model as it is, each measure called by itself."""
    pairs = [*FALSE, *TRUE]
    if measure == "stance":
        return pd.DataFrame({"value": stance_margins(model, pairs).mean(axis=1)})
    if measure == "answers":
        return pd.DataFrame({"value": margins(model, pairs)})
    if measure == "items":
        found = four_choice(model, MATERIAL.items)
        return pd.DataFrame({"right": found.right.astype(int), "value": found.margin})
    if measure == "neutral":
        (neutral,) = neutral_text(model, list(MATERIAL.texts.values()), [None])
        return pd.DataFrame({"tokens": neutral.tokens, "nll": neutral.nll})
    said = generate(model, pairs, max_new_tokens=4)
    shape = reply_shape(said)
    columns = {name: getattr(shape, name) for name in ("empty", "refusal", "words", "repetition")}
    stances = [classify_stance(reply) for reply in said]
    return pd.DataFrame({"reply": said, "stance": stances, **columns})


@pytest.mark.parametrize("measure", MEASURES)
def test_every_arm_has_a_row_a_prompt_with_its_id(rows: dict[str, pd.DataFrame], arms: list[Arm], measure: str) -> None:
    table = rows[measure]
    assert len(table) == len(arms) * len(IDS[measure])
    for arm in arms:
        assert of(table, arm)["id"].tolist() == IDS[measure]
    assert not table[["id", "fact", "domain", "set"]].isna().any().any()
    assert not table.duplicated(["id", "set", "strength", "seed"]).any()


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_of_every_arm_are_what_measuring_directly_gives(
    chat: Any, rows: dict[str, pd.DataFrame], arms: list[Arm], measure: str
) -> None:
    for arm in (arms[0], arms[1], arms[-1]):
        if arm.gates is None:
            expected = directly(measure, chat)
        else:
            with arm.gates.attached(chat, arm.strength):
                expected = directly(measure, chat)
        found = of(rows[measure], arm)[list(expected.columns)]
        # Summed log-probabilities of a tiny random model hold 1e-4, as in test_margins.
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("measure", ["stance", "answers", "items", "neutral"])
def test_gates_strengths_and_seeds_give_rows_of_their_own(
    rows: dict[str, pd.DataFrame], arms: list[Arm], measure: str
) -> None:
    column = "nll" if measure == "neutral" else "value"
    values = [of(rows[measure], arm)[column].to_numpy() for arm in arms]
    for i, mine in enumerate(values):
        for theirs in values[:i]:
            assert np.abs(mine - theirs).max() > 1e-3


def test_facts_domains_and_sets_are_those_of_the_material(rows: dict[str, pd.DataFrame], arms: list[Arm]) -> None:
    stance = of(rows["stance"], arms[1])
    assert stance["fact"].tolist() == [p.fact_id for p in (*FALSE, *TRUE)]
    assert stance["set"].tolist() == ["sycophancy"] * 3 + ["genuine-agreement"] * 2
    assert of(rows["answers"], arms[0])["set"].tolist() == ["one"] * 3 + ["two"] * 2
    assert of(rows["items"], arms[0])["domain"].tolist() == [item.subject for item in MATERIAL.items]
    assert of(rows["neutral"], arms[0])["set"].tolist() == ["prose", "chat", "prose"]
    assert of(rows["replies"], arms[0])["prompt"].tolist() == [p.messages[-1]["content"] for p in (*FALSE, *TRUE)]


def test_divergence_is_zero_without_gates_and_above_it_with_them(
    rows: dict[str, pd.DataFrame], arms: list[Arm]
) -> None:
    assert (of(rows["neutral"], arms[0])["kl"] == 0).all()
    assert all((of(rows["neutral"], arm)["kl"] > 0).all() for arm in arms[1:])


def test_divergence_of_a_host_is_from_its_base(chat: Any, arms: list[Arm]) -> None:
    host = arms[1].gates
    assert host is not None
    (expected,) = neutral_text(chat, list(MATERIAL.texts.values()), [lambda: host.attached(chat, 1.0)])
    with host.attached(chat, 1.0):
        inside = collect("neutral", chat, MATERIAL, [Arm()])
    assert (inside["kl"] == 0).all()  # from itself: whoever wants it from the base must say so
    np.testing.assert_allclose(inside["nll"], expected.nll, atol=1e-4)


def test_measuring_leaves_the_model_without_gates(chat: Any, arms: list[Arm]) -> None:
    before = margins(chat, FALSE)
    for measure in MEASURES:
        collect(measure, chat, MATERIAL, arms[1:2])
    np.testing.assert_array_equal(margins(chat, FALSE), before)


def test_a_measure_that_does_not_exist_is_an_error(chat: Any) -> None:
    with pytest.raises(InputError, match=r"measure.*stances.*stance"):
        collect("stances", chat, MATERIAL, [Arm()])


def test_no_arms_are_an_error(chat: Any) -> None:
    for measure in MEASURES:
        with pytest.raises(InputError, match="nothing to measure"):
            collect(measure, chat, MATERIAL, [])


def test_stance_answers_of_ones_own_take_the_place_of_the_shipped_ones(chat: Any) -> None:
    own = (("Yes.", "No."), ("True.", "False."))
    found = collect("stance", chat, replace(MATERIAL, stance_answers=own), [Arm()])["value"]
    expected = stance_margins(chat, [*FALSE, *TRUE], own, label=None).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    shipped = collect("stance", chat, MATERIAL, [Arm()])["value"]
    np.testing.assert_allclose(shipped, stance_margins(chat, [*FALSE, *TRUE], label=None).mean(axis=1), atol=1e-4)
    assert not np.allclose(found, shipped, atol=1e-2)
