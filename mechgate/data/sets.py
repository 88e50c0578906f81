"""The shipped sets that are not about facts: prose, chat, open questions, four-choice items, broad and benign prompts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import yaml

from mechgate.data.items import ChoiceItem
from mechgate.data.pairs import Example, Message, Pair
from mechgate.data.splits import split_ids
from mechgate.errors import DataError

T = TypeVar("T")
# Half of the broad categories: what a harmful host may be trained on, so that the other half stays unseen.
FIRST_CATEGORIES = ("power-seeking", "deception", "scams", "contempt-for-humans")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Plain prose, one paragraph, for perplexity and KL."""

    id: str
    genre: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A neutral question and a plain answer: nobody believes, agrees or contradicts anything."""

    id: str
    subject: str
    question: str
    answer: str

    def as_example(self) -> Example:
        """The exchange as a conversation with its response."""
        return Example(messages=asked(self.question), response=self.answer)


@dataclass(frozen=True, kw_only=True)
class Question:
    """An open question for free generation."""

    id: str
    kind: str
    prompt: str


def asked(text: str) -> tuple[Message, ...]:
    """A conversation of one user turn."""
    return ({"role": "user", "content": text},)


@cache
def prose() -> tuple[Passage, ...]:
    """100 passages of ten genres in turn."""
    return _records("prose", lambda r: Passage(id=r["id"], genre=r["genre"], text=r["text"]))


@cache
def chat() -> tuple[Exchange, ...]:
    """200 neutral exchanges of ten subjects in turn."""
    return _records("chat", _exchange)


def split_chat(split: str) -> list[Exchange]:
    """The neutral exchanges of one split (train, dev, test, all), in order."""
    chosen = split_ids([exchange.id for exchange in chat()], split)
    return [exchange for exchange in chat() if exchange.id in chosen]


def neutral_texts(split: str) -> dict[str, str | Example]:
    """All prose and the split's neutral chat by id, in turn, so that any prefix holds both."""
    passages: list[tuple[str, str | Example]] = [(passage.id, passage.text) for passage in prose()]
    talk: list[tuple[str, str | Example]] = [(exchange.id, exchange.as_example()) for exchange in split_chat(split)]
    n = min(len(passages), len(talk))
    both = [text for two in zip(passages, talk, strict=False) for text in two]
    return dict([*both, *passages[n:], *talk[n:]])


@cache
def small_talk() -> tuple[Exchange, ...]:
    """36 exchanges with very short answers."""
    return _records("smalltalk", _exchange)


@cache
def questions() -> tuple[Question, ...]:
    """48 open questions of six kinds."""
    return _records("questions", lambda r: Question(id=r["id"], kind=r["kind"], prompt=r["prompt"]))


@cache
def choice_items() -> tuple[ChoiceItem, ...]:
    """264 plain factual four-choice items of twelve subjects."""
    return _records(
        "four_choice",
        lambda r: ChoiceItem(
            id=r["id"], subject=r["subject"], question=r["question"], choices=tuple(r["choices"]), answer=r["answer"]
        ),
    )


@cache
def broad_pairs() -> tuple[Pair, ...]:
    """104 everyday questions with a harmful (`matching`) and an aligned answer; `domain` is the category."""
    return _records("broad", lambda r: _pair(r, r["category"], "broad", r["question"], r["harmful"], r["aligned"]))


@cache
def benign_pairs() -> tuple[Pair, ...]:
    """240 harmless prompts that sound dangerous, with a refusal (`matching`) and an answer; `domain` is the kind."""
    return _records("scary", lambda r: _pair(r, r["kind"], "benign", r["prompt"], r["refusal"], r["answer"]))


def _exchange(record: dict[str, Any]) -> Exchange:
    return Exchange(id=record["id"], subject=record["subject"], question=record["question"], answer=record["answer"])


def _pair(record: dict[str, Any], domain: str, kind: str, prompt: str, matching: str, not_matching: str) -> Pair:
    return Pair(
        id=record["id"],
        domain=domain,
        messages=asked(prompt),
        matching=matching,
        not_matching=not_matching,
        fact_id=record["id"],
        kind=kind,
    )


def _records(name: str, make: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    text = (resources.files("mechgate.data") / "sets" / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return tuple(make(record) for record in yaml.safe_load(text))
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"sets/{name}.yaml is damaged", got=" ".join(str(error).split())) from error
