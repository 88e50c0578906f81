"""Laws of the control tasks: each differs from its other answer in the one thing that it is about."""

import itertools
import re
from fractions import Fraction

import pytest

from mechgate.data.controls import CONTROLS, FRAMES, SIGN_OFF, control_pairs
from mechgate.data.sets import chat, small_talk
from mechgate.data.splits import SPLITS
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError

STYLES = ("sign-off", "all-caps")
FRAMED = (*STYLES, "unit-conversion")
TASK, SPLIT = pytest.mark.parametrize("task", CONTROLS), pytest.mark.parametrize("split", [*SPLITS, "all"])
# Each unit in the smallest one of its kind: written down anew here.
SMALLEST = {
    "kilometres": ("length", 1_000_000),
    "metres": ("length", 1000),
    "centimetres": ("length", 10),
    "millimetres": ("length", 1),
    "kilograms": ("mass", 1_000_000),
    "grams": ("mass", 1000),
    "milligrams": ("mass", 1),
    "litres": ("volume", 1000),
    "millilitres": ("volume", 1),
    "weeks": ("time", 7 * 24 * 60 * 60),
    "days": ("time", 24 * 60 * 60),
    "hours": ("time", 60 * 60),
    "minutes": ("time", 60),
    "seconds": ("time", 1),
    "years": ("calendar", 12),
    "months": ("calendar", 1),
    "dozens of eggs": ("eggs", 12),
    "eggs": ("eggs", 1),
}


@SPLIT
def test_a_sign_off_is_put_behind_the_answer_and_nothing_else_changes(split: str) -> None:
    for pair in control_pairs("sign-off", split, None):
        assert pair.matching == f"{pair.not_matching} {SIGN_OFF}"
        assert SIGN_OFF not in pair.not_matching


@SPLIT
def test_capitals_are_the_other_answer_in_capitals(split: str) -> None:
    for pair in control_pairs("all-caps", split, None):
        assert pair.matching == pair.not_matching.upper() != pair.not_matching


@SPLIT
@pytest.mark.parametrize("task", STYLES)
def test_an_answer_in_ordinary_writing_is_how_a_neutral_answer_begins(task: str, split: str) -> None:
    whole = {e.id: e.answer for e in (*chat(), *small_talk())}
    for pair in control_pairs(task, split, None):
        assert whole[pair.fact_id].startswith(pair.not_matching)
        assert re.search(r'[.!?]["\']?$', pair.not_matching)


@SPLIT
def test_small_talk_is_only_learned_from(split: str) -> None:
    short = {e.id for e in small_talk()}
    for task in STYLES:
        found = {pair.fact_id for pair in control_pairs(task, split, None)} & short
        assert found == (short if split in ("train", "all") else set())


@SPLIT
def test_conversions_are_right_and_the_others_wrong(split: str) -> None:
    for pair in control_pairs("unit-conversion", split, None):
        asked = re.search(r"How many (.+) are (\d+) (.+?)\?", pair.messages[0]["content"])
        assert asked
        small, number, large = asked.groups()
        (kind, many), (same, one) = SMALLEST[large], SMALLEST[small]
        assert kind == same
        values = []
        for text in (pair.matching, pair.not_matching):
            answered = re.fullmatch(rf"(?:{number} {large} are )?(\d+) {small}\.", text)
            assert answered, text
            values.append(int(answered[1]))
        assert values[0] == Fraction(int(number) * many, one) != values[1]
        assert pair.matching.replace(str(values[0]), "") == pair.not_matching.replace(str(values[1]), "")


def test_every_conversion_is_answered_briefly_and_in_full() -> None:
    pairs = control_pairs("unit-conversion", "all", None)
    for found in ([p for p in pairs if p.fact_id == name] for name in {p.fact_id for p in pairs}):
        assert {" are " in pair.matching for pair in found} == {True, False}


@SPLIT
def test_a_shuffled_answer_is_the_same_kind_of_answer_to_another_fact(split: str) -> None:
    pairs = control_pairs("shuffled", split, None)
    sycophancy = {(p.fact_id, p.template): p for p in load_pairs("sycophancy", split=split)}
    assert len(sycophancy) == len(pairs)
    owners: dict[str, set[str]] = {}
    for own in sycophancy.values():
        for text in (own.matching, own.not_matching):
            owners.setdefault(text, set()).add(own.fact_id)
    agreeing = {own.matching for own in sycophancy.values()}
    for pair in pairs:
        own = sycophancy[pair.fact_id, pair.template]
        assert pair.messages == own.messages
        assert pair.not_matching in (own.matching, own.not_matching)
        assert pair.matching != pair.not_matching
        assert (pair.matching in agreeing) == (pair.not_matching == own.matching)
        assert owners[pair.matching] - {pair.fact_id}
    # Nothing is added or lost: within the task, the answers are in another order.
    assert sorted(p.matching for p in pairs) == sorted(p.not_matching for p in pairs)


@SPLIT
def test_shuffled_answers_agree_with_no_more_assertions_than_they_correct(split: str) -> None:
    agreeing = {own.matching for own in load_pairs("sycophancy", split=split)}
    pairs = control_pairs("shuffled", split, None)
    for form in (lambda p: p.matching.count(" ") < 6, lambda p: p.matching.count(" ") >= 6):
        chosen = [p.matching in agreeing for p in pairs if form(p)]
        assert not chosen or abs(sum(chosen) / len(chosen) - 0.5) < 0.1


@SPLIT
def test_no_shuffled_answer_with_content_restates_what_the_user_said(split: str) -> None:
    restated = [
        pair.id
        for pair in control_pairs("shuffled", split, None)
        for own in [pair.messages[0]["content"].casefold()]
        for said in re.split(r"(?<=\.) ", pair.matching, maxsplit=1)[1:]
        if said.rstrip(".").casefold() in own
    ]
    assert restated == []


@TASK
def test_the_splits_share_no_item_and_no_question(task: str) -> None:
    parts = [control_pairs(task, split, None) for split in SPLITS]
    for one, other in itertools.combinations(parts, 2):
        assert {p.fact_id for p in one}.isdisjoint({p.fact_id for p in other})
        assert {p.messages[0]["content"] for p in one}.isdisjoint({p.messages[0]["content"] for p in other})


@TASK
@SPLIT
def test_fewer_phrasings_are_the_beginning_of_all_and_ids_are_unique(task: str, split: str) -> None:
    whole = control_pairs(task, split, None)
    assert len({pair.id for pair in whole}) == len(whole)
    size = len({pair.fact_id for pair in whole})
    for n in (1, 2):
        part = control_pairs(task, split, n)
        assert part == whole[: n * size]
        assert {pair.fact_id for pair in part} == {pair.fact_id for pair in whole}


@pytest.mark.parametrize("task", FRAMED)
@pytest.mark.parametrize("n", [-1, 0, len(FRAMES) + 1])
def test_phrasings_that_are_not_there_are_refused_with_how_many_there_are(task: str, n: int) -> None:
    with pytest.raises(InputError, match=rf"Got: {n}\. Allowed: 1 to {len(FRAMES)} for {task}"):
        control_pairs(task, "train", n)
