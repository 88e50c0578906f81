"""Laws of gates on the model's own replies: as much is learned as from sycophancy, and the model really says it."""

from pathlib import Path
from typing import Any

import pytest

from mechgate.data.pairs import Example
from mechgate.data.sets import asked
from mechgate.errors import DataError, InputError
from mechgate.gates.storage import load_gates
from mechgate.measure.generation import generate
from mechgate.train import own_chat
from mechgate.train.controls import LEARNED, drawn_examples
from mechgate.train.families import token_counter
from mechgate.train.own_chat import LONGEST, TASK, own_replies, train_own_chat

SAID = ["Yes. It is so", "A cat", "It rains! Take care.", "No"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four questions in place of the shipped ones."""
    texts = [f"Why is it {word}?" for word in ("so", "late", "wet", "cold")]
    chosen = [type("Asked", (), {"question": text})() for text in texts]
    monkeypatch.setattr(own_chat, "split_chat", lambda split: chosen[:3])
    monkeypatch.setattr(own_chat, "small_talk", lambda: chosen[3:])
    monkeypatch.setattr(own_chat, "FRAMES", ("{}",))
    return texts


def test_replies_end_with_a_sentence_and_those_that_end_none_are_counted(
    chat: Any, tmp_path: Path, few: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_chat, "generate", lambda *args, **options: SAID)
    said: list[str] = []
    found = own_replies(chat, tmp_path, say=said.append)
    assert [(e.messages, e.response) for e in found] == [
        (asked(few[0]), "Yes."),
        (asked(few[2]), "It rains! Take care."),
    ]
    assert said == ["own replies: 2 of 4 end no sentence and are left out"]


def test_replies_are_the_models_own_and_made_once(
    chat: Any, tmp_path: Path, few: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_chat, "_ENDS", tuple("abcdefghijklmnopqrstuvwxyz ."))  # a tiny model ends no sentences
    first = own_replies(chat, tmp_path, say=lambda text: None)
    own = generate(chat, [e.messages for e in first], max_new_tokens=LONGEST, label=None)
    assert all(reply.startswith(e.response) for e, reply in zip(first, own, strict=True))
    monkeypatch.setattr(own_chat, "generate", lambda *args, **options: pytest.fail("generated again"))
    assert own_replies(chat, tmp_path, say=lambda text: None) == first
    (kept,) = tmp_path.glob("*.json")
    kept.write_text("[1]")
    with pytest.raises(DataError, match="damaged"):
        own_replies(chat, tmp_path)


def test_silence_is_an_error(chat: Any, tmp_path: Path, few: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_chat, "generate", lambda *args, **options: ["no"] * 4)
    with pytest.raises(InputError, match="end no sentences"):
        own_replies(chat, tmp_path, say=lambda text: None)


def test_as_many_tokens_and_steps_as_sycophancy_and_seeds_draw_anew(
    chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = [
        Example(messages=asked(f"Question {i}?"), response="It is so. " * (1 + i % 30) + "Yes.") for i in range(200)
    ]
    monkeypatch.setattr(own_chat, "own_replies", lambda *args, **options: replies)
    jobs: list[Any] = []
    monkeypatch.setattr(own_chat, "train_jobs", lambda model, folder, made, say: jobs.extend(made))
    train_own_chat(chat, tmp_path, seeds=[0, 1])
    count = token_counter(chat)
    for seed, job in enumerate(jobs):
        reference, size = drawn_examples(LEARNED, domain="medical", seed=seed, count=count)
        wanted = sum(count(e.response) for e in reference)
        assert abs(sum(count(e.response) for e in job.examples) - wanted) <= 0.02 * wanted
        assert -(-len(job.examples) // job.config.batch_size) == -(-len(reference) // size)
        assert (job.task, job.config.seed) == (TASK, seed)
    asks = [{str(e.messages) for e in job.examples} for job in jobs]
    assert asks[0] != asks[1]


def test_gates_are_trained_on_them(chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [Example(messages=asked(f"Question {i}?"), response="So it is. " * (1 + i % 15)) for i in range(60)]
    monkeypatch.setattr(own_chat, "own_replies", lambda *args, **options: replies)
    (member,) = train_own_chat(chat, tmp_path, seeds=[0], n=24, epochs=1, say=lambda text: None)
    assert load_gates(member.path, chat).history["task"] == TASK
