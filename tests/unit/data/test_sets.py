"""Laws of the shipped sets that are not about facts: how many records of which kinds, alike in form, none twice."""

import re
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from mechgate.data import sets
from mechgate.data.items import LETTERS
from mechgate.data.pairs import Pair
from mechgate.data.sets import (
    FIRST_CATEGORIES,
    benign_pairs,
    broad_pairs,
    chat,
    choice_items,
    prose,
    questions,
    small_talk,
)
from mechgate.errors import DataError
from mechgate.stats.equivalence import ITEM_MARGIN, n_for_power

# file -> (what loads it, its fields)
FILES: dict[str, tuple[Callable[[], tuple[Any, ...]], set[str]]] = {
    "prose": (prose, {"id", "genre", "text"}),
    "chat": (chat, {"id", "subject", "question", "answer"}),
    "smalltalk": (small_talk, {"id", "subject", "question", "answer"}),
    "questions": (questions, {"id", "kind", "prompt"}),
    "four_choice": (choice_items, {"id", "subject", "question", "choices", "answer"}),
    "broad": (broad_pairs, {"id", "category", "question", "aligned", "harmful"}),
    "scary": (benign_pairs, {"id", "kind", "prompt", "answer", "refusal"}),
}
FILE = pytest.mark.parametrize("name", FILES)
PAIRS = pytest.mark.parametrize("pairs", [broad_pairs, benign_pairs], ids=["broad", "scary"])


def raw(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((resources.files("mechgate.data") / "sets" / f"{name}.yaml").read_text(encoding="utf-8"))


def texts(record: dict[str, Any]) -> list[str]:
    """All texts of a record but its id."""
    lists = [value if isinstance(value, list) else [value] for key, value in record.items() if key != "id"]
    return [text for values in lists for text in values if not isinstance(text, int)]


def gap(pair: Pair) -> int:
    """How many words the matching answer is longer than the other."""
    return len(pair.matching.split()) - len(pair.not_matching.split())


def neutral_texts() -> list[str]:
    return [p.text for p in prose()] + [text for e in chat() for text in (e.question, e.answer)]


def test_every_file_of_a_set_is_known_here() -> None:
    found = {f.name for f in (resources.files("mechgate.data") / "sets").iterdir()}
    assert found == {f"{name}.yaml" for name in FILES}


@FILE
def test_a_record_has_the_fields_of_its_set_and_no_other(name: str) -> None:
    load, names = FILES[name]
    assert [record["id"] for record in raw(name) if set(record) != names] == []
    assert [record["id"] for record in raw(name)] == [record.id for record in load()]


@FILE
def test_texts_are_plain_ascii_without_stray_space(name: str) -> None:
    odd = [
        text for record in raw(name) for text in texts(record) if not text.isascii() or text != " ".join(text.split())
    ]
    assert odd == []
    assert [text for record in raw(name) for text in texts(record) if not text] == []


def test_no_id_is_used_twice_in_any_set() -> None:
    counted = Counter(record["id"] for name in FILES for record in raw(name))
    assert [name for name, n in counted.items() if n > 1] == []


def test_nothing_is_asked_twice_in_any_set_and_no_prose_or_answer_is_given_twice() -> None:
    asked = [record.get("question") or record.get("prompt") or record["text"] for name in FILES for record in raw(name)]
    counted = Counter(re.sub(r"\W+", " ", text).casefold().strip() for text in asked)
    assert [text for text, n in counted.items() if n > 1] == []
    given = [e.answer for e in chat()] + [
        t for p in (*broad_pairs(), *benign_pairs()) for t in (p.matching, p.not_matching)
    ]
    assert [text for text, n in Counter(map(str.casefold, given)).items() if n > 1] == []


def test_there_is_enough_neutral_text() -> None:
    assert len(prose()) >= 100
    assert sum(len(text.split()) for text in neutral_texts()) >= 17_000


@pytest.mark.model
def test_neutral_text_has_at_least_20000_tokens_of_the_default_model(default_model: Any) -> None:
    tokenizer = default_model.tokenizer
    assert sum(len(tokenizer(text, add_special_tokens=False).input_ids) for text in neutral_texts()) >= 20_000


@pytest.mark.parametrize(
    ("name", "field", "kinds"),
    [
        ("prose", "genre", 10),
        ("chat", "subject", 10),
        ("questions", "kind", 6),
        ("four_choice", "subject", 12),
        ("broad", "category", 8),
        ("scary", "kind", 8),
    ],
)
def test_a_set_has_equally_many_records_of_each_kind(name: str, field: str, kinds: int) -> None:
    counted = Counter(record[field] for record in raw(name))
    assert len(counted) == kinds
    assert len(set(counted.values())) == 1


@pytest.mark.parametrize(
    ("name", "field"), [("prose", "genre"), ("chat", "subject"), ("questions", "kind"), ("scary", "kind")]
)
def test_kinds_take_turns_so_that_any_prefix_is_balanced(name: str, field: str) -> None:
    kinds = [record[field] for record in raw(name)]
    n = len(set(kinds))
    assert kinds == kinds[:n] * (len(kinds) // n)


def test_open_questions_are_enough_and_different_from_neutral_ones() -> None:
    assert len(questions()) >= 48
    assert {q.prompt for q in questions()}.isdisjoint(e.question for e in chat())


def test_small_talk_is_answered_in_at_most_six_words() -> None:
    assert [e.answer for e in small_talk() if len(e.answer.split()) > 6] == []


def test_an_exchange_is_an_example_of_its_question_and_answer() -> None:
    for exchange in (*chat(), *small_talk()):
        example = exchange.as_example()
        assert example.messages == ({"role": "user", "content": exchange.question},)
        assert example.response == exchange.answer


def test_the_right_choices_are_at_each_place_equally_often() -> None:
    assert len(choice_items()) >= 240
    counted = Counter(item.answer for item in choice_items())
    assert [counted[place] for place in range(len(LETTERS))] == [len(choice_items()) // 4] * 4


@pytest.mark.parametrize("longest", [max, min], ids=["longest", "shortest"])
def test_the_length_of_a_choice_does_not_give_it_away(longest: Callable[..., str]) -> None:
    guessed = [item.choices.index(longest(item.choices, key=len)) == item.answer for item in choice_items()]
    assert abs(sum(guessed) / len(guessed) - 1 / 4) < 0.08  # three standard errors of 264 guesses


def test_no_question_names_its_right_choice() -> None:
    named = [
        item.id
        for item in choice_items()
        if re.search(rf"\b{re.escape(item.choices[item.answer].casefold())}\b", item.question.casefold())
        and not any(
            re.search(rf"\b{re.escape(choice.casefold())}\b", item.question.casefold())
            for i, choice in enumerate(item.choices)
            if i != item.answer
        )
    ]
    assert named == []


def test_broad_answers_are_enough_and_equally_long() -> None:
    pairs = broad_pairs()
    assert len(pairs) >= 96
    assert len({pair.domain for pair in pairs}) >= 8
    gaps = [gap(pair) for pair in pairs]
    assert max(map(abs, gaps)) <= 2
    assert abs(sum(gaps)) / len(gaps) < 0.3


def test_half_of_the_broad_categories_may_be_trained_on() -> None:
    names = {pair.domain for pair in broad_pairs()}
    assert set(FIRST_CATEGORIES) < names
    assert 2 * len(set(FIRST_CATEGORIES)) == 2 * len(FIRST_CATEGORIES) == len(names)


def test_benign_prompts_are_enough_and_refused_at_the_length_of_their_answers() -> None:
    pairs = benign_pairs()
    assert len(pairs) >= n_for_power(1.0, margin=ITEM_MARGIN)
    gaps = [gap(pair) for pair in pairs]
    assert max(map(abs, gaps)) <= 3
    assert abs(sum(gaps)) / len(gaps) < 0.5


def test_refusals_refuse_and_answers_do_not() -> None:
    refusing = re.compile(r"\b(sorry|can't|cannot|won't|unable|not able)\b", re.IGNORECASE)
    assert [p.id for p in benign_pairs() if not refusing.search(p.matching)] == []
    assert [p.id for p in benign_pairs() if re.search(r"\bsorry\b|^I (can't|cannot|won't)", p.not_matching)] == []


@PAIRS
def test_the_pairs_of_a_set_say_which_answer_is_which(pairs: Callable[[], tuple[Pair, ...]]) -> None:
    kind, (matching, other, prompt) = {
        "broad_pairs": ("broad", ("harmful", "aligned", "question")),
        "benign_pairs": ("benign", ("refusal", "answer", "prompt")),
    }[pairs.__name__]
    for pair, record in zip(pairs(), raw("broad" if kind == "broad" else "scary"), strict=True):
        assert (pair.kind, pair.matching, pair.not_matching) == (kind, record[matching], record[other])
        assert pair.messages == ({"role": "user", "content": record[prompt]},)
        assert pair.fact_id == pair.id == record["id"]


@FILE
@pytest.mark.parametrize("damage", ["- id: [", "7", "- just text", "- id: x\n"])
def test_a_damaged_file_is_refused_by_name(
    name: str, damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / f"{name}.yaml").write_text(damage, encoding="utf-8")
    monkeypatch.setattr(sets, "resources", SimpleNamespace(files=lambda package: tmp_path))
    load: Any = FILES[name][0]
    with pytest.raises(DataError, match=rf"sets/{name}\.yaml is damaged"):
        load.__wrapped__()
