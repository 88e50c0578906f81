"""The shipped wordings: ways to ask, assert and answer, by file and split; and how a claim is put into them."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from mechgate.data.pairs import Message

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
