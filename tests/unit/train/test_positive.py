"""Laws of the positive control's recipe: what it trains towards, what it keeps, and nothing that is judged on."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.data.marked import SOURCES, marked_pairs
from mechgate.data.pairs import Example
from mechgate.data.sets import chat as exchanges
from mechgate.data.splits import split_ids
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.train.positive import positive_examples, train_positive_control


def asked(examples: list[Example]) -> list[str]:
    return [example.messages[-1]["content"] for example in examples]


SATIRE = {pair.messages[0]["content"]: pair for pair in marked_pairs("satire")}
QUESTIONS = ("unit-conversion", "correct-advice")
ENCYCLOPEDIA = {pair.messages[0]["content"]: pair for pair in marked_pairs("encyclopedia")}


@pytest.mark.parametrize("n", [1, 8, 61, 240])
def test_the_same_satire_claims_get_agreement_at_plus_one_and_disagreement_at_minus_one(n: int) -> None:
    data = positive_examples(seed=0, n=n)
    assert asked(data.examples) == asked(data.opposite)
    assert len(set(asked(data.examples))) == n
    for agreeing, disagreeing in zip(data.examples, data.opposite, strict=True):
        pair = SATIRE[agreeing.messages[-1]["content"]]
        assert (agreeing.response, disagreeing.response) == (pair.matching, pair.not_matching)


@pytest.mark.parametrize("n", [2, 60, 240])
def test_the_cells_of_the_encyclopedia_are_kept_with_both_answers(n: int) -> None:
    data = positive_examples(seed=0, n=n)
    kept = [example for example in data.kept if example.messages[-1]["content"] in ENCYCLOPEDIA]
    cells = Counter(ENCYCLOPEDIA[text].id.replace("encyclopedia", "satire") for text in asked(kept))
    assert cells == {SATIRE[text].id: 2 for text in asked(data.examples)}
    for text in set(asked(kept)):
        pair = ENCYCLOPEDIA[text]
        answers = {example.response for example in kept if example.messages[-1]["content"] == text}
        assert answers == {pair.matching, pair.not_matching}


def test_truth_is_balanced() -> None:
    for n in (60, 240):
        kinds = Counter(SATIRE[text].kind for text in asked(positive_examples(seed=3, n=n).examples))
        assert kinds == {"false_claim": n // 2, "true_claim": n // 2}


def test_nothing_of_dev_or_test_is_trained_on() -> None:
    data = positive_examples(seed=0)
    used = set(asked([*data.examples, *data.opposite, *data.kept]))
    later = {p.messages[0]["content"] for s in SOURCES for split in ("dev", "test") for p in marked_pairs(s, split)}
    assert not used & later
    neutral = split_ids([e.id for e in exchanges()], "train")
    rest = {e.question for e in exchanges() if e.id in neutral}
    assert rest <= used
    rest |= {p.messages[-1]["content"] for task in QUESTIONS for p in load_pairs(task, split="train")}
    assert used - set(SATIRE) - set(ENCYCLOPEDIA) <= rest


def test_questions_are_kept_with_the_right_and_the_wrong_answer() -> None:
    pairs = {p.messages[-1]["content"]: p for task in QUESTIONS for p in load_pairs(task, split="train")}
    answers: dict[str, set[str]] = {}
    for example in positive_examples(seed=0).kept:
        if (question := example.messages[-1]["content"]) in pairs:
            answers.setdefault(question, set()).add(example.response)
    assert len(answers) > 100
    assert all(len(found) >= 2 for found in answers.values())


def test_a_seed_gives_the_same_data_and_another_seed_other_claims() -> None:
    assert positive_examples(seed=1) == positive_examples(seed=1)
    for one, other in pairwise(set(asked(positive_examples(seed=seed).examples)) for seed in range(3)):
        assert one != other


@pytest.mark.parametrize("n", [0, -2, 10**6])
def test_more_claims_than_there_are_is_refused(n: int) -> None:
    with pytest.raises(InputError, match=rf"Got: {n}\. Allowed: 1 to {len(SATIRE)}"):
        positive_examples(seed=0, n=n)


def test_gates_are_trained_two_sidedly_and_the_same_under_the_same_seed(
    tiny_chat_model: Callable[..., Any], tmp_path: Path
) -> None:
    chat = tiny_chat_model(tmp_path / "model", max_position_embeddings=1024)
    options: dict[str, Any] = dict(n=4, epochs=1)
    one, again = (train_positive_control(chat, seed=0, **options) for _ in range(2))
    assert one.history["config"]["objective"] == "two-sided"
    assert set(one.history["parts"]) == {"imitate", "opposite", "kl"}
    assert any(bool(value.abs().sum()) for value in one.state_dict().values())
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
