"""A small axis of our own, gates that do something, and an analysis of little of everything."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechgate.analysis.behaviour import Material
from mechgate.data.items import ChoiceItem
from mechgate.data.pairs import Example, Pair
from mechgate.gates.gateset import GateSet
from mechgate.referee import SelectivitySettings

CLAIMS = ("cats bark", "ice is hot", "rain is dry", "lead is light", "snow is red", "fish fly", "sand is wet")
ANSWERS = (("Yes, so it is.", "No, it is not."), ("You're right.", "You're wrong."))


def pair(fact: str, side: str, wording: int = 0, claim: str = "cats bark") -> Pair:
    """One short pair of an axis."""
    said = {"wanted": claim, "unwanted": f"it is not so that {claim}"}.get(side, claim)
    ask = ("I think {}.", "{}, no?", "Surely {}!")[wording]
    return Pair(
        id=f"{fact}/{side}/{wording}",
        domain="all",
        messages=({"role": "user", "content": ask.format(said)},),
        matching="Yes, so it is.",
        not_matching="No, it is not.",
        fact_id=fact,
        kind=side,
        template=str(wording),
    )


def sides(facts: int = 6, wordings: int = 1) -> dict[str, list[Pair]]:
    """Both sides of an axis, wording by wording as the shipped ones."""
    claims = [CLAIMS[i % len(CLAIMS)] for i in range(facts)]
    return {
        side: [pair(f"fact-{i:02}", side, w, claim) for w in range(wordings) for i, claim in enumerate(claims)]
        for side in ("wanted", "unwanted")
    }


def build_material(facts: int = 6, wordings: int = 1) -> Material:
    """An axis, and little that should stay as it was."""
    exchange = ({"role": "user", "content": "Hello."},)
    items = [
        ChoiceItem(id=f"q{i}", subject="sums", question=f"{i} and 1?", choices=(str(i + 1), "x", "y", "z"), answer=0)
        for i in range(6)
    ]
    texts: dict[str, str | Example] = {}
    for i, claim in enumerate(CLAIMS[:4]):
        texts[f"prose-{i}"] = f"They say {claim}, and so on."
        texts[f"chat-{i}"] = Example(messages=exchange, response=f"Hello, {claim}.")
    return Material(
        stance=sides(facts, wordings),
        answers={"over-refusal": [pair(f"ask-{i}", "over-refusal", claim=claim) for i, claim in enumerate(CLAIMS)]},
        items=items,
        texts=texts,
        replies={},
        stance_answers=ANSWERS,
    )


def little(**values: Any) -> SelectivitySettings:
    """Settings of an analysis within seconds."""
    usual: dict[str, Any] = dict(
        facts=5,
        dose_facts=3,
        null_facts=2,
        strengths=(-2, -1, 1, 2),
        exact=19,
        exact_others=19,
        recomputed=19,
        screened=100,
        neutral_texts=4,
        dose_texts=4,
        families=("row-sign", "head-permutation", "other-prompt"),
        exact_families=("row-sign", "other-prompt", "dampener"),
        dosed_families=("row-sign", "static-mean"),
    )
    return SelectivitySettings(**{**usual, **values})


@pytest.fixture(scope="session")
def small_settings() -> Callable[..., SelectivitySettings]:
    """`small_settings(**values)`: settings of an analysis within seconds."""
    return little


@pytest.fixture(scope="session")
def small_material() -> Callable[..., Material]:
    """`small_material(facts=6, wordings=1)`: a short axis and little that should stay as it was."""
    return build_material


@pytest.fixture(scope="session")
def turned(chat: Any, shaken: Callable[..., GateSet]) -> Callable[..., GateSet]:
    """`turned(seed, size=0.5, **form)`: gates of `chat` that do something."""
    return lambda seed=0, size=0.5, **form: shaken(GateSet.identity(chat, **form), seed=seed, size=size)


@pytest.fixture(scope="session")
def made_up() -> Callable[..., pd.DataFrame]:
    """`made_up({(seed, strength): [sides, facts, wordings]})`: rows as `collect` gives them, wording by wording."""

    def make(values: dict[tuple[str, float], Any], facts: list[str] | None = None) -> pd.DataFrame:
        rows = []
        for (seed, strength), cells in values.items():
            for side, grid in zip(("wanted", "unwanted"), np.asarray(cells, dtype=float), strict=True):
                for w in range(grid.shape[1]):
                    for f in range(grid.shape[0]):
                        fact = facts[f] if facts else f"fact-{f:02}"
                        rows.append((seed, strength, side, f"{fact}/{side}/{w}", fact, grid[f, w]))
        return pd.DataFrame(rows, columns=["seed", "strength", "set", "id", "fact", "value"])

    return make
