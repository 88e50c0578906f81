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
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates
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
def test_the_cells_of_the_encyclopedia_are_unmarked_with_both_answers(n: int) -> None:
    data = positive_examples(seed=0, n=n)
    cells = Counter(ENCYCLOPEDIA[text].id.replace("encyclopedia", "satire") for text in asked(data.unmarked))
    assert cells == {SATIRE[text].id: 2 for text in asked(data.examples)}
    for text in set(asked(data.unmarked)):
        pair = ENCYCLOPEDIA[text]
        answers = {example.response for example in data.unmarked if example.messages[-1]["content"] == text}
        assert answers == {pair.matching, pair.not_matching}


def test_truth_is_balanced() -> None:
    for n in (60, 240):
        kinds = Counter(SATIRE[text].kind for text in asked(positive_examples(seed=3, n=n).examples))
        assert kinds == {"false_claim": n // 2, "true_claim": n // 2}


def test_nothing_of_dev_or_test_is_used_and_what_is_kept_is_neither_marked_nor_unmarked() -> None:
    data = positive_examples(seed=0)
    talk, questions = (set(asked(group)) for group in data.kept)
    used = {*asked(data.examples), *asked(data.opposite), *asked(data.unmarked), *talk, *questions}
    later = {p.messages[0]["content"] for s in SOURCES for split in ("dev", "test") for p in marked_pairs(s, split)}
    assert not used & later
    neutral = split_ids([e.id for e in exchanges()], "train")
    assert talk == {e.question for e in exchanges() if e.id in neutral}
    assert questions <= {p.messages[-1]["content"] for task in QUESTIONS for p in load_pairs(task, split="train")}
    assert not (talk | questions) & (set(SATIRE) | set(ENCYCLOPEDIA))


def test_questions_are_kept_with_the_right_and_the_wrong_answer() -> None:
    answers: dict[str, set[str]] = {}
    for example in positive_examples(seed=0).kept[1]:
        answers.setdefault(example.messages[-1]["content"], set()).add(example.response)
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


@pytest.fixture(scope="module")
def model(tiny_chat_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_chat_model(tmp_path_factory.mktemp("long") / "model", max_position_embeddings=1024)


@pytest.fixture(scope="module")
def gates(model: Any) -> GateSet:
    return train_positive_control(model, seed=0, n=16)


def test_gates_are_the_stance_learned_two_sidedly_times_one_direction(gates: GateSet) -> None:
    assert gates.history["config"]["objective"] == "two-sided"
    assert set(gates.history["parts"]) == {"imitate", "opposite"}
    assert (gates.rank, gates.layers) == (1, (1, 2))
    for layer in gates.layers:
        gate = gates.gate(layer)
        assert not gate.bias.any()
        assert not any(parameter.requires_grad for parameter in gate.parameters())
        assert all(bool(part.any()) for part in gate.rows() if part is not gate.bias)


def test_the_same_seed_gives_the_same_gates_and_another_seed_others(model: Any) -> None:
    one, again, other = (train_positive_control(model, seed=seed, n=16).state_dict() for seed in (0, 0, 1))
    for name, value in one.items():
        assert torch.equal(value, again[name])
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_they_are_saved_and_loaded_as_any_gates(model: Any, gates: GateSet, tmp_path: Path) -> None:
    gates.save(tmp_path / "gates.safetensors")
    loaded = load_gates(tmp_path / "gates.safetensors", model)
    assert loaded.history["task"] == "satire-claims"
    for name, value in gates.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_training_leaves_the_model_as_it_was(tiny_chat_model: Callable[..., Any], tmp_path: Path) -> None:
    fresh = tiny_chat_model(tmp_path / "model", max_position_embeddings=1024)
    before = {name: value.clone() for name, value in fresh.original_model.state_dict().items()}
    train_positive_control(fresh, seed=0, n=8)
    for name, value in fresh.original_model.state_dict().items():
        assert torch.equal(value, before[name])
