"""The two records everything is made of: `Pair` (two answers to compare) and `Example` (one answer to train on)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from mechgate.errors import DataError, check_choice
from mechgate.provenance import stable_hash

Message = dict[str, str]
ROLES = ("system", "user", "assistant")


def check_messages(messages: tuple[Message, ...], where: str) -> None:
    """Raise `DataError` unless these are chat messages that a user ends; `where` names the record."""
    if not messages:
        raise DataError(f"{where} has no messages")
    for message in messages:
        if set(message) != {"role", "content"} or not isinstance(message["content"], str):
            raise DataError(
                f"{where} has a malformed message", got=sorted(message), allowed="role and content, both strings"
            )
        if message["role"] not in ROLES:
            raise DataError(f"{where} has an unknown role", got=repr(message["role"]), allowed=ROLES)
    if messages[-1]["role"] != "user":
        raise DataError(
            f"{where} must end with the user's turn", got=messages[-1]["role"], do="put the answer in response"
        )


@dataclass(frozen=True, kw_only=True)
class Example:
    """One conversation and the answer to train on. `messages` ends with the user's turn."""

    messages: tuple[Message, ...]
    response: str

    def __post_init__(self) -> None:
        check_messages(self.messages, "an example")
        if not self.response.strip():
            raise DataError("an example has an empty response", got=repr(self.messages[-1]["content"][:80]))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to one conversation, `matching` being the one that shows the behaviour under study.

    `kind` says what was asserted (`false_claim`, `true_claim`), `template` how, `fact_id` about what: all phrasings
    of a fact are one cluster in every statistic. `stance` gives how many characters of each answer carry only the
    stance ("You're right,"), the rest being content; margins can be split there. `claim` is what the conversation
    asserts, letter for letter as one of its messages has it (and no other): gates can act on its tokens alone. It is a
    piece of the messages and adds nothing to them; no data hash has it.
    """

    id: str
    domain: str
    messages: tuple[Message, ...]
    matching: str
    not_matching: str
    fact_id: str
    kind: str
    template: str = ""
    stance: tuple[int, int] | None = None
    claim: str | None = None

    def __post_init__(self) -> None:
        check_messages(self.messages, f"pair {self.id}")
        for name in ("matching", "not_matching"):
            if not getattr(self, name).strip():
                raise DataError(f"pair {self.id} has an empty answer", got=name)

    def as_example(self, answer: Literal["matching", "not_matching"]) -> Example:
        """The training example that gives one of the two answers."""
        check_choice("answer", answer, ("matching", "not_matching"))
        return Example(messages=self.messages, response=getattr(self, answer))


T = TypeVar("T", Pair, Example)


def with_system(record: T, text: str) -> T:
    """The same pair or example with `text` as the system message before everything else.

    Raises `DataError` for a conversation that has a system message, and for no text.
    """
    if not text.strip() or record.messages[0]["role"] == "system":
        raise DataError(
            "a system message cannot be put there",
            got=repr(record.messages[0]["content"][:80]) if text.strip() else "no text",
            allowed="one text, before conversations without a system message",
        )
    return replace(record, messages=({"role": "system", "content": text}, *record.messages))


def data_hash(examples: Sequence[Example | str]) -> str:
    """A sha256 over the examples (or plain texts), in order: what was trained on, in every artefact."""
    return stable_hash([e if isinstance(e, str) else [list(e.messages), e.response] for e in examples])
