"""Laws of the design: sides that match, facts that nest, settings that are checked at once."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mechgate.analysis.behaviour import Material
from mechgate.data.items import ChoiceItem
from mechgate.errors import InputError
from mechgate.referee.design import (
    SelectivitySettings,
    check_sides,
    check_spared,
    first_texts,
    neutral_texts,
    settings_of,
    shipped_material,
    some_facts,
)


def facts_of(stance: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(pair.fact_id for pair in stance["wanted"]))


@pytest.fixture(scope="module")
def shipped() -> Material:
    return shipped_material(SelectivitySettings(phrasings=2))


def test_the_shipped_sides_are_asked_alike_cell_by_cell(shipped: Material) -> None:
    check_sides(shipped.stance)
    check_spared(shipped)
    wanted, unwanted = shipped.stance["wanted"], shipped.stance["unwanted"]
    assert [(p.fact_id, p.template) for p in wanted] == [(p.fact_id, p.template) for p in unwanted]
    assert not {p.id for p in wanted} & {p.id for p in unwanted}


@pytest.mark.parametrize(("n", "of_these", "of_those"), [(None, 16, 6), (60, 12, 6), (17, 16, 15), (4, 3, 2)])
def test_shipped_facts_nest_and_spread_over_domains(
    shipped: Material, n: int | None, of_these: int, of_those: int
) -> None:
    all_facts = facts_of(shipped.stance)
    verdict = some_facts(shipped.stance, n)
    dose = some_facts(verdict, of_these)
    null = some_facts(dose, of_those)
    assert [len(facts_of(part)) for part in (verdict, dose, null)] == [n or len(all_facts), of_these, of_those]
    assert set(facts_of(null)) <= set(facts_of(dose)) <= set(facts_of(verdict)) <= set(all_facts)
    for part in (verdict, dose, null):
        check_sides(part)
        assert len(part["wanted"]) == 2 * len(facts_of(part))
    if of_those >= 6:
        assert len({p.domain for p in null["wanted"]}) >= 4


def test_any_number_of_any_facts_is_that_number_in_order_with_both_ends(
    small_material: Callable[..., Material],
) -> None:
    for size in range(2, 40):
        stance = small_material(size).stance
        order = facts_of(stance)
        for n in range(2, size + 1):
            chosen = facts_of(some_facts(stance, n))
            assert len(chosen) == n
            assert chosen == [fact for fact in order if fact in set(chosen)]
            assert (chosen[0], chosen[-1]) == (order[0], order[-1])
            places = [order.index(fact) for fact in chosen]
            steps = [b - a for a, b in itertools.pairwise(places)]
            assert max(steps) - min(steps) <= 1


def test_more_facts_than_there_are_is_an_error_that_says_what_to_lower(
    small_material: Callable[..., Material],
) -> None:
    with pytest.raises(InputError, match=r"at most 6.*dose_facts"):
        some_facts(small_material(6).stance, 7)


@pytest.mark.parametrize("broken", ["one side", "another fact", "a wording less", "uneven wordings", "an id twice"])
def test_sides_that_do_not_match_are_refused(small_material: Callable[..., Material], broken: str) -> None:
    stance = small_material(4, 2).stance
    wanted, unwanted = stance["wanted"], stance["unwanted"]
    stances = {
        "one side": {"wanted": wanted},
        "another fact": {"wanted": wanted, "unwanted": [*unwanted[:-1], replace(unwanted[-1], fact_id="other")]},
        "a wording less": {"wanted": wanted, "unwanted": unwanted[:-1]},
        "uneven wordings": {"wanted": wanted[:-1], "unwanted": unwanted[:-1]},
        "an id twice": {
            "wanted": wanted,
            "unwanted": [replace(u, id=w.id) for w, u in zip(wanted, unwanted, strict=True)],
        },
    }
    with pytest.raises(InputError):
        check_sides(stances[broken])
    check_sides(stance)


@pytest.mark.parametrize("broken", ["no texts", "one item", "one answer", "one chat", "nothing to spare", "system"])
def test_damage_that_cannot_be_measured_is_refused(small_material: Callable[..., Material], broken: str) -> None:
    stock = small_material()
    chats = [name for name in stock.texts if name.startswith("chat")]
    changes: dict[str, dict[str, Any]] = {
        "no texts": {"texts": {}},
        "one item": {"items": stock.items[:1]},
        "one answer": {"answers": {"over-refusal": stock.answers["over-refusal"][:1]}},
        "one chat": {"texts": {k: v for k, v in stock.texts.items() if k not in chats[1:]}},
        "nothing to spare": {"items": [], "answers": {}},
        "system": {"system": "Be honest."},
    }
    with pytest.raises(InputError):
        check_spared(replace(stock, **changes[broken]))
    check_spared(replace(stock, items=list[ChoiceItem]()))
    check_spared(replace(stock, answers={}))


@pytest.mark.parametrize("quick", [False, True])
def test_every_bad_setting_is_named_in_one_input_error(quick: bool) -> None:
    bad = dict(facts=2, exact=3, families=("row-sing",), strengths=(0,), colour="red")
    with pytest.raises(InputError) as error:
        settings_of(quick, **bad)
    for name in bad:
        assert name in str(error.value)
    for values in ({"strength": 0.0}, {"strength": float("nan")}, {"dose_facts": 5, "null_facts": 6}):
        with pytest.raises(InputError):
            settings_of(quick, **values)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("facts", [4, 5, 8, 13, 100])
def test_few_facts_lower_what_is_measured_on_some_of_them(quick: bool, facts: int) -> None:
    usual, found = settings_of(quick), settings_of(quick, facts=facts)
    assert found.facts == facts
    assert found.dose_facts == min(usual.dose_facts, facts)
    assert found.null_facts == min(usual.null_facts, facts)
    with pytest.raises(InputError, match="dose_facts"):
        settings_of(quick, facts=facts, dose_facts=facts + 1)


def test_quick_measures_less_of_everything_and_yields_to_what_is_given() -> None:
    quick, full = settings_of(True), settings_of()
    for name in ("strengths", "families", "exact_families", "dosed_families"):
        assert set(getattr(quick, name)) < set(getattr(full, name))
    assert quick.facts is not None
    assert full.facts is None
    assert settings_of(True, facts=30, known=True) == SelectivitySettings.quick(facts=30, known=True)


def test_strengths_are_sorted_once_each_and_bands_hold_both_signs_and_the_ends() -> None:
    found = settings_of(strengths=(2, -1, 0.0, 2, -3), strength=1.5)
    assert found.strengths == (-3, -1, 2)
    assert found.both == (1.5, -1.5)
    assert found.bands == (-3, -1.5, 1.5, 2)


def test_any_prefix_of_the_neutral_texts_holds_prose_and_chat(shipped: Material) -> None:
    texts = list(neutral_texts("test").values())
    assert first_texts(shipped, 3) == texts[:3]
    assert [isinstance(text, str) for text in texts[:8]] == [True, False] * 4
    assert len(texts) == len({str(t) for t in texts})
