"""The shipped wordings: ways to ask, assert and answer, by file and split; and how a claim is put into them."""

from functools import cache
from importlib import resources
from string import Formatter
from typing import Any

import yaml

from mechgate.data.pairs import Message
from mechgate.errors import DataError

Wording = str | list[str]


@cache
def wordings(name: str) -> dict[str, Any]:
    """What `conversations/<name>.yaml` holds."""
    text = (resources.files("mechgate.data") / "conversations" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def sentence(clause: str) -> str:
    """A clause with a capital, as it begins a sentence."""
    return clause[0].upper() + clause[1:]


def filled(wording: str, *, claim: str = "", topic: str = "") -> str:
    """A wording with its claim or topic in it."""
    return wording.format(claim=claim, Claim=sentence(claim) if claim else "", topic=topic)


def conversation(wording: Wording, *, claim: str = "", topic: str = "") -> tuple[Message, ...]:
    """The messages of a wording: one user turn, or, for a list, user and assistant in turn, the user last."""
    turns = [wording] if isinstance(wording, str) else wording
    roles = ("user", "assistant")
    return tuple(
        {"role": roles[i % 2], "content": filled(turn, claim=claim, topic=topic)} for i, turn in enumerate(turns)
    )


def claim_at(wording: Wording, *, claim: str) -> tuple[int, int, int]:
    """Where `conversation` puts the claim: the message's index, and its first and end character there.

    Raises `DataError` for a wording that states its claim never, or more than once.
    """
    turns, found = [wording] if isinstance(wording, str) else wording, []
    for i, turn in enumerate(turns):
        said = 0  # characters so far
        for text, field, *_ in Formatter().parse(turn):
            start = said + len(text)
            said = start + (len(filled(f"{{{field}}}", claim=claim)) if field else 0)
            if field in ("claim", "Claim"):
                found.append((i, start, said))
    if len(found) != 1:
        raise DataError("a wording must state its claim once", got=repr(wording))
    return found[0]
