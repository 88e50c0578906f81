"""What does a gate change that it should, and what that it should leave alone? One table for base, gated model and host.

`collect` measures: a tidy row a prompt, arm by arm. `summarise` turns rows into estimates over facts or items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from mechgate.data.items import ChoiceItem
from mechgate.data.pairs import Example, Pair, with_system
from mechgate.errors import InputError, check_choice
from mechgate.measure.capability import four_choice, neutral_text
from mechgate.measure.generation import generate
from mechgate.measure.margins import margins, stance_margins
from mechgate.measure.replies import reply_shape
from mechgate.measure.stances import classify_stance
from mechgate.model.dials import Dial
from mechgate.progress import track

MEASURES = ("stance", "answers", "items", "neutral", "replies")


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is measured on: pairs for stance margins and for answer margins by name, items, texts, prompts to reply to.

    `stance_answers` are the (agreeing, disagreeing) answers of stance margins; None is the shipped ones. `system` is a
    system message before every conversation and question (plain text is no conversation); None leaves it to the chat
    template.
    """

    stance: dict[str, list[Pair]]
    answers: dict[str, list[Pair]]
    items: list[ChoiceItem]
    texts: dict[str, str | Example]
    replies: dict[str, list[Pair]]
    max_new_tokens: int = 40
    stance_answers: tuple[tuple[str, str], ...] | None = None
    system: str | None = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One column of the table: gates (or another dial) at a strength, or none. `seed` names the set where there are several."""

    gates: Dial | None = None
    strength: float = 0.0
    seed: str = ""

    def columns(self) -> dict[str, Any]:
        """What tells its rows from other arms' rows."""
        return {"strength": self.strength, "seed": self.seed}


def collect(measure: str, model: Any, material: Material, arms: Sequence[Arm], *, base: Any = None) -> pd.DataFrame:
    """The rows of one of `MEASURES` for every arm: strength, seed, set, id, fact, domain and the measured columns.

    stance: `value`, the stance margin (nats, mean over answer pairs). answers: `value`, the margin (nats a token).
    items: `right` (0 or 1) and `value`, the margin (nats a token). neutral: `tokens`, `nll` and `kl` (nats, summed over the
    text's tokens); KL is from `base` without gates, on the same conversations. replies: `reply`, its `stance`, `empty`, `refusal`,
    `words`, `repetition`. Raises `InputError` for an unknown measure, and where there is nothing to measure.
    """
    check_choice("measure", measure, MEASURES)
    if measure == "neutral":
        return _neutral(model, material, arms, base)
    found = []
    jobs = [(arm, name, pairs) for arm in arms for name, pairs in _sets(measure, material).items()]
    if not jobs:
        raise InputError("there is nothing to measure", got=f"{measure}: no arms, or no sets")
    for arm, name, records in track(jobs, f"{measure}, {len(arms)} arm(s)"):
        if arm.gates is None:
            table = _ROWS[measure](model, records, material)
        else:
            with arm.gates.attached(model, arm.strength):
                table = _ROWS[measure](model, records, material)
        found.append(table.assign(set=name, **arm.columns()))
    return pd.concat(found, ignore_index=True)


def _sets(measure: str, material: Material) -> dict[str, list[Any]]:
    if measure == "items":
        return {"four-choice": material.items}
    return {"stance": material.stance, "answers": material.answers, "replies": material.replies}[measure]


def _keys(pairs: Sequence[Pair]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [p.id for p in pairs],
            "fact": [p.fact_id for p in pairs],
            "domain": [p.domain for p in pairs],
        }
    )


def _told(pairs: list[Pair], material: Material) -> list[Pair]:
    return pairs if material.system is None else [with_system(pair, material.system) for pair in pairs]


def _stance(model: Any, pairs: list[Pair], material: Material) -> pd.DataFrame:
    found = stance_margins(model, _told(pairs, material), material.stance_answers, label=None)
    return _keys(pairs).assign(value=found.mean(axis=1))


def _answers(model: Any, pairs: list[Pair], material: Material) -> pd.DataFrame:
    return _keys(pairs).assign(value=margins(model, _told(pairs, material), label=None))


def _items(model: Any, items: list[ChoiceItem], material: Material) -> pd.DataFrame:
    found = four_choice(model, items, system=material.system, label=None)
    ids = [item.id for item in items]
    return pd.DataFrame(
        {
            "id": ids,
            "fact": ids,
            "domain": [item.subject for item in items],
            "right": found.right.astype(int),
            "value": found.margin,
        }
    )


def _replies(model: Any, pairs: list[Pair], material: Material) -> pd.DataFrame:
    told = _told(pairs, material)
    said = generate(model, told, max_new_tokens=material.max_new_tokens, batch_size=32, label=None)
    shape = reply_shape(said)
    return _keys(pairs).assign(
        prompt=[p.messages[-1]["content"] for p in pairs],
        reply=said,
        stance=[classify_stance(reply) for reply in said],
        empty=shape.empty.astype(int),
        refusal=shape.refusal.astype(int),
        words=shape.words,
        repetition=shape.repetition,
    )


_ROWS: dict[str, Callable[[Any, list[Any], Material], pd.DataFrame]] = {
    "stance": _stance,
    "answers": _answers,
    "items": _items,
    "replies": _replies,
}


def _neutral(model: Any, material: Material, arms: Sequence[Arm], base: Any) -> pd.DataFrame:
    names, texts = list(material.texts), list(material.texts.values())
    if material.system is not None:
        texts = [text if isinstance(text, str) else with_system(text, material.system) for text in texts]
    changes = [partial(a.gates.attached, model, a.strength) if a.gates is not None else None for a in arms]
    found = neutral_text(model, texts, changes, base=base)
    kinds = ["prose" if isinstance(text, str) else "chat" for text in texts]
    tables = [
        pd.DataFrame(
            {
                "id": names,
                "fact": names,
                "domain": kinds,
                "set": kinds,
                "tokens": n.tokens,
                "nll": n.nll,
                "kl": n.kl,
            }
        ).assign(**arm.columns())
        for arm, n in zip(arms, found, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)
