"""Laws of capability measures: what the slow, obvious computation gives, whatever else is measured with it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.items import ChoiceItem
from mechgate.data.pairs import Example
from mechgate.data.sets import chat as chat_set
from mechgate.data.sets import choice_items, prose
from mechgate.errors import DataError, InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure import capability
from mechgate.measure.capability import Neutral, four_choice, neutral_base, neutral_text
from mechgate.model.loading import model_info
from mechgate.testing import ARCHITECTURES

ITEMS = list(choice_items()[:6])
TEXTS: list[str | Example] = [
    "The capital of France is Paris.",
    chat_set()[0].as_example(),
    prose()[0].text[:150],
    "Rome",
    Example(messages=({"role": "user", "content": "Vitamin C?"},), response="Not correct."),
]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]
) -> Any:
    """A tiny chat model of each architecture in turn; leave it as it was."""
    return tiny_chat_model(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    """`chat` with other weights; leave it as it was."""
    return tiny_chat_model(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="module")
def gates(chat: Any, shaken: Callable[..., GateSet]) -> GateSet:
    return shaken(GateSet.identity(chat), size=0.5)


def ids_of(model: Any, text: str | Example) -> tuple[list[int], int]:
    """A text's ids, and how many of them nothing is asked of: plain text's first, a conversation's prompt."""
    tokenizer = model_info(model).tokenizer
    if isinstance(text, str):
        return tokenizer(text).input_ids, 1
    prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in text.messages)
    start = tokenizer(f"{prompt}<|im_start|>assistant\n", add_special_tokens=False).input_ids
    return start + tokenizer(f"{text.response}<|im_end|>", add_special_tokens=False).input_ids, len(start)


def slow_logprobs(model: Any, text: str | Example) -> torch.Tensor:
    """float64 log-probabilities of the whole vocabulary wherever a token is predicted: [tokens, vocabulary]."""
    ids, n = ids_of(model, text)
    with torch.no_grad():
        return model.original_model(input_ids=torch.tensor([ids])).logits[0, n - 1 : -1].double().log_softmax(-1)


def slow_nll(model: Any, text: str | Example) -> float:
    """Hugging Face's own loss, which is a mean over tokens, summed."""
    ids, n = ids_of(model, text)
    labels = torch.tensor([[-100] * n + ids[n:]])
    with torch.no_grad():
        return model.original_model(input_ids=torch.tensor([ids]), labels=labels).loss.item() * (len(ids) - n)


def slow_kl(base: torch.Tensor, changed: torch.Tensor) -> float:
    return sum((p.exp() * (p - q)).sum().item() for p, q in zip(base, changed, strict=True))


def assert_same(found: Neutral, expected: Neutral, atol: float = 1e-5) -> None:
    """Equal to `atol` nats a token."""
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    for mine, theirs in ((found.nll, expected.nll), (found.kl, expected.kl)):
        np.testing.assert_allclose(mine / found.tokens, theirs / found.tokens, atol=atol, rtol=0)


def slow_score(model: Any, question: str, answer: str) -> float:
    """Mean log-probability of an answer's tokens with its end of turn."""
    example = Example(messages=({"role": "user", "content": question},), response=answer)
    ids, n = ids_of(model, example)
    return np.mean([row[token].item() for row, token in zip(slow_logprobs(model, example), ids[n:], strict=True)])


def test_choices_are_scored_as_the_slow_computation_does(model: Any) -> None:
    found = four_choice(model, ITEMS)
    for i, item in enumerate(ITEMS):
        scores = [slow_score(model, item.question, f"{c[0].upper()}{c[1:]}.") for c in item.choices]
        best = max(s for k, s in enumerate(scores) if k != item.answer)
        assert found.margin[i] == pytest.approx(scores[item.answer] - best, abs=1e-5)
        assert found.right[i] == (np.argmax(scores) == item.answer)


def turned(item: ChoiceItem, order: list[int]) -> ChoiceItem:
    a, b, c, d = (item.choices[i] for i in order)
    return replace(item, choices=(a, b, c, d), answer=order.index(item.answer))


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 2, 3, 0], [0, 2, 1, 3]], ids=str)
def test_the_order_of_the_choices_changes_nothing(chat: Any, order: list[int]) -> None:
    expected, found = four_choice(chat, ITEMS), four_choice(chat, [turned(item, order) for item in ITEMS])
    np.testing.assert_allclose(found.margin, expected.margin, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found.right, expected.right)


def test_exactly_one_choice_is_right_whichever_is_asked_for(chat: Any) -> None:
    rights = [four_choice(chat, [replace(item, answer=k) for item in ITEMS]).right for k in range(4)]
    np.testing.assert_array_equal(np.sum(rights, axis=0), 1)


def test_choices_do_not_depend_on_the_batch_size_and_the_order_of_items(chat: Any) -> None:
    expected = four_choice(chat, ITEMS).margin
    for size in (1, 2, 5):
        np.testing.assert_allclose(four_choice(chat, ITEMS, batch_size=size).margin, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(four_choice(chat, ITEMS[::-1]).margin, expected[::-1], atol=1e-5, rtol=0)


def test_likelihood_and_divergence_of_gates_are_what_the_slow_computation_gives(
    model: Any, shaken: Callable[..., GateSet]
) -> None:
    gates = shaken(GateSet.identity(model), size=0.5)
    plain, gated = neutral_text(model, TEXTS, [None, partial(gates.attached, model, -1.0)])
    unchanged = [slow_logprobs(model, text) for text in TEXTS]
    tokens = [len(rows) for rows in unchanged]
    expected = Neutral(
        tokens=np.array(tokens), nll=np.array([slow_nll(model, t) for t in TEXTS]), kl=np.zeros(len(TEXTS))
    )
    assert_same(plain, expected)
    np.testing.assert_array_equal(plain.kl, 0)
    with gates.attached(model, -1.0):
        changed = [slow_logprobs(model, text) for text in TEXTS]
        nll = np.array([slow_nll(model, text) for text in TEXTS])
    kl = np.array([slow_kl(*both) for both in zip(unchanged, changed, strict=True)])
    assert_same(gated, Neutral(tokens=np.array(tokens), nll=nll, kl=kl))
    assert (gated.kl > 0.01).all()


def test_a_change_that_changes_nothing_diverges_by_nothing(chat: Any, gates: GateSet) -> None:
    plain, still = neutral_text(chat, TEXTS, [None, partial(gates.attached, chat, 0.0)])
    np.testing.assert_array_equal(still.nll, plain.nll)
    np.testing.assert_allclose(still.kl, 0, atol=1e-5)


def test_divergence_can_be_taken_from_another_model(chat: Any, other: Any, gates: GateSet) -> None:
    change = partial(gates.attached, chat, 1.0)
    plain, gated = neutral_text(chat, TEXTS, [None, change], base=other)
    base = [slow_logprobs(other, text) for text in TEXTS]
    for found, context in ((plain, partial(gates.attached, chat, 0.0)), (gated, change)):
        with context():
            here = [slow_logprobs(chat, text) for text in TEXTS]
            nll = np.array([slow_nll(chat, text) for text in TEXTS])
        kl = np.array([slow_kl(*both) for both in zip(base, here, strict=True)])
        assert_same(found, Neutral(tokens=plain.tokens, nll=nll, kl=kl))
        assert (found.kl > 0.01).all()
    (same,) = neutral_text(chat, TEXTS, [None], base=chat)
    np.testing.assert_allclose(same.kl, 0, atol=1e-5)


def test_gates_around_the_call_belong_to_the_model_and_not_to_another_base(
    chat: Any, other: Any, gates: GateSet
) -> None:
    (expected,) = neutral_text(chat, TEXTS, [partial(gates.attached, chat, 1.0)], base=other)
    with gates.attached(chat, 1.0):
        (found,) = neutral_text(chat, TEXTS, [None], base=other)
    assert_same(found, expected)


def test_arms_measured_together_are_each_measured_as_alone(chat: Any, gates: GateSet) -> None:
    arms = [partial(gates.attached, chat, -1.0), None, partial(gates.attached, chat, 0.5)]
    for found, arm in zip(neutral_text(chat, TEXTS, arms), arms, strict=True):
        assert_same(found, neutral_text(chat, TEXTS, [arm])[0])


def test_texts_do_not_depend_on_the_batch_size_and_each_other(chat: Any, gates: GateSet) -> None:
    arms = [partial(gates.attached, chat, 1.0)]
    (expected,) = neutral_text(chat, TEXTS, arms)
    for size in (1, 2, 3):
        assert_same(neutral_text(chat, TEXTS, arms, batch_size=size)[0], expected)
    (turned,) = neutral_text(chat, TEXTS[::-1], arms)
    assert_same(Neutral(tokens=turned.tokens[::-1], nll=turned.nll[::-1], kl=turned.kl[::-1]), expected)


def test_chunks_of_logits_change_nothing(chat: Any, gates: GateSet, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = [partial(gates.attached, chat, 1.0)]
    (expected,) = neutral_text(chat, TEXTS, arms)
    whole = int(expected.tokens.sum())
    for chunk in (1, 7, whole - 1, whole, whole + 1):
        monkeypatch.setattr(capability, "_CHUNK", chunk)
        assert_same(neutral_text(chat, TEXTS, arms)[0], expected)


def test_measuring_leaves_the_model_as_it_was(chat: Any, gates: GateSet) -> None:
    before = slow_logprobs(chat, TEXTS[0])
    neutral_text(chat, TEXTS, [partial(gates.attached, chat, 1.0), None])
    assert torch.equal(slow_logprobs(chat, TEXTS[0]), before)


@pytest.mark.parametrize(("texts", "arms"), [([], [None]), (["Rome is here."], []), ([], [])], ids=str)
def test_nothing_to_measure_is_an_error(chat: Any, texts: list[str | Example], arms: list[None]) -> None:
    with pytest.raises(InputError, match=rf"nothing to measure.*{len(texts)} texts, {len(arms)} arms"):
        neutral_text(chat, texts, arms)


def test_no_items_are_an_error(chat: Any) -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        four_choice(chat, [])


def test_a_text_that_does_not_fit_is_refused_and_not_cut(chat: Any) -> None:
    with pytest.raises(DataError, match=r"longer than the model's context.*at most 256"):
        neutral_text(chat, [*TEXTS, "z" * 300], [None])


def test_texts_run_once_serve_later_arms_as_if_run_anew(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    kept = neutral_base(chat, TEXTS)
    for strength in (-1.0, 0.5):
        arm = partial(gates.attached, chat, strength)
        (once,), (anew,) = (neutral_text(chat, t, [arm], label=None) for t in (kept, TEXTS))
        np.testing.assert_array_equal(once.tokens, anew.tokens)
        np.testing.assert_allclose([once.nll, once.kl], [anew.nll, anew.kl], rtol=1e-5, atol=1e-5)
    assert neutral_text(chat, kept, [None], label=None)[0].kl == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="nothing to measure"):
        neutral_base(chat, [])
