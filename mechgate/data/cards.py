"""Cards of the shipped data sets: what each is, how it was made, how large it is, and what it cannot show."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from typing import Any

from mechgate.data import sets
from mechgate.data.facts import domains, load_facts
from mechgate.data.marked import MARKED
from mechgate.data.tasks import TASKS, load_pairs
from mechgate.data.traits import TRAITS, trait_pairs
from mechgate.errors import check_choice

SETS: dict[str, Callable[[], Sequence[Any]]] = {
    "sets/prose": sets.prose,
    "sets/chat": sets.chat,
    "sets/smalltalk": sets.small_talk,
    "sets/questions": sets.questions,
    "sets/four_choice": sets.choice_items,
    "sets/broad": sets.broad_pairs,
    "sets/scary": sets.benign_pairs,
    **{f"traits/{name}": partial(trait_pairs, name, "all") for name in TRAITS},
}
CARDS = ("facts", "conversations", "marked", "controls", "broad", "four_choice", "scary", "neutral", "traits")
# What a task or set is described by, where the card has another name.
_CARD = {
    **dict.fromkeys(("sycophancy", "genuine-agreement", "bad-advice", "correct-advice"), "facts"),
    **dict.fromkeys(("sign-off", "all-caps", "unit-conversion", "shuffled", "sets/smalltalk"), "controls"),
    **dict.fromkeys(("sets/prose", "sets/chat", "sets/questions"), "neutral"),
    **dict.fromkeys(MARKED, "marked"),
    "over-refusal": "scary",
    "sets/scary": "scary",
    "sets/broad": "broad",
    "sets/four_choice": "four_choice",
    **{f"traits/{name}": "traits" for name in TRAITS},
}


def sizes() -> dict[str, int]:
    """The number of records of each shipped set."""
    return {f"facts/{name}": len(load_facts(name)) for name in domains()} | {n: len(get()) for n, get in SETS.items()}


def names() -> tuple[str, ...]:
    """Everything that has a card: tasks, sets, domains of facts, and the cards themselves."""
    return (*TASKS, *sizes(), *(c for c in CARDS if c not in TASKS))


def card_of(name: str) -> str:
    """The card (Markdown) that describes a task or set; raises `InputError` for an unknown name."""
    check_choice("name", name, names())
    card = "facts" if name.startswith("facts/") else _CARD.get(name, name)
    return (resources.files("mechgate.data") / "cards" / f"{card}.md").read_text(encoding="utf-8")


def records_of(name: str, split: str) -> Sequence[Any]:
    """The records of a task's split or of a set; none for a card that describes several."""
    check_choice("name", name, names())
    if name in TASKS:
        return load_pairs(name, split=split)
    if name.startswith("facts/"):
        return load_facts(name.removeprefix("facts/"))
    return SETS[name]() if name in SETS else ()
