"""What a selectivity analysis measures, on what: the settings, and the shipped axis of false against true claims."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mechgate.analysis.behaviour import Material
from mechgate.data.pairs import Example, Pair
from mechgate.data.sets import choice_items, neutral_texts
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.nulls import FAMILIES
from mechgate.referee.draws import SIDES, TABLED
from mechgate.stats.permutation import FEWEST_NULLS

DOSES = (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
QUICK_DOSES = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
REFUSAL = "over-refusal"
FOR_P = 99
"""Exact null draws that a printed p-value takes, exact or screened."""


class SelectivitySettings(BaseModel):
    """What `mechgate selectivity` does; unknown keys are errors.

    The verdict is at `strength`, on `facts` facts (None: all) in `phrasings` wordings. Dose curves, controls and nulls
    at equal dose are measured on `dose_facts` of these, exact draws of null families on `null_facts` of those: `exact`
    draws on the first gate set and `exact_others` on each other one, of the families in `exact_families` (of those that
    are computed draw by draw `exact_others`, on the first set only). `screened` first-order draws (`recomputed` of
    families that are computed draw by draw) are made of all in `families`. `dosed_families` are also measured at equal
    dose, one draw a gate set. Null gates are matched on `neutral_texts` texts, doses on `dose_texts` of these;
    perplexity of the shipped material is tested on `perplexity_texts` (None: all).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: float = -1.0
    strengths: tuple[float, ...] = DOSES
    split: str = "test"
    facts: int | None = Field(default=None, ge=4)
    phrasings: int = Field(default=1, ge=1)
    dose_facts: int = Field(default=16, ge=2)
    null_facts: int = Field(default=6, ge=2)
    families: tuple[str, ...] = tuple(FAMILIES)
    exact_families: tuple[str, ...] = tuple(FAMILIES)
    dosed_families: tuple[str, ...] = tuple(FAMILIES)
    exact: int = Field(default=100, ge=FEWEST_NULLS)
    exact_others: int = Field(default=20, ge=FEWEST_NULLS)
    screened: int = Field(default=10_000, ge=100)
    recomputed: int = Field(default=200, ge=FEWEST_NULLS)
    dose_texts: int = Field(default=6, ge=1)
    neutral_texts: int = Field(default=8, ge=1)
    perplexity_texts: int | None = Field(default=None, ge=4)
    known: bool = True
    seed: int = 0

    @classmethod
    def quick(cls, **values: Any) -> "SelectivitySettings":
        """Within minutes: exact row-sign nulls alone (99), the others screened, a shorter curve, 60 facts."""
        usual: dict[str, Any] = dict(
            strengths=QUICK_DOSES,
            facts=60,
            dose_facts=12,
            exact=FOR_P,
            exact_families=("row-sign",),
            families=TABLED,
            perplexity_texts=48,
            dosed_families=("row-sign", "head-permutation", "static-mean", "dampener"),
            known=False,
        )
        return cls(**{**usual, **values})

    @field_validator("families", "exact_families", "dosed_families")
    @classmethod
    def _families(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - set(FAMILIES):
            raise ValueError(f"unknown null families {sorted(unknown)}; allowed: {', '.join(FAMILIES)}")
        return tuple(dict.fromkeys(value))

    @field_validator("strengths")
    @classmethod
    def _strengths(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not set(value) - {0.0} or not np.isfinite(value).all():
            raise ValueError("strengths must be finite numbers, at least one other than 0")
        return tuple(sorted(set(value) - {0.0}))  # strength 0 is measured once for all

    @model_validator(mode="after")
    def _fit(self) -> "SelectivitySettings":
        if self.strength == 0 or not np.isfinite(self.strength):
            raise ValueError("strength must be finite and not 0")
        if self.facts is not None and self.dose_facts > self.facts:
            raise ValueError("dose_facts must be some of the facts")
        if self.null_facts > self.dose_facts:
            raise ValueError("null_facts must be some of the dose_facts")
        return self

    @property
    def both(self) -> tuple[float, ...]:
        """The verdict's strength, and the opposite one beside it."""
        return (self.strength, -self.strength)

    @property
    def bands(self) -> tuple[float, ...]:
        """Strengths at which controls and some nulls are measured too: both, and the ends of the dose curve."""
        return tuple(sorted({*self.both, self.strengths[0], self.strengths[-1]}))


def settings_of(quick: bool = False, **values: Any) -> SelectivitySettings:
    """`SelectivitySettings`, with what pydantic finds as one `InputError`. Fewer `facts` than the usual dose_facts or
    null_facts lower these, where they are not given."""
    usual = SelectivitySettings.quick() if quick else SelectivitySettings()
    if isinstance(facts := values.get("facts"), int) and facts >= 4:
        values = {name: min(facts, getattr(usual, name)) for name in ("dose_facts", "null_facts")} | values
    try:
        return SelectivitySettings.quick(**values) if quick else SelectivitySettings(**values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        raise InputError("the settings of the selectivity analysis cannot be used", got=found) from error


def shipped_material(settings: SelectivitySettings) -> Material:
    """The shipped axis: false claims (wanted) against the true claims of the same facts, asked alike (unwanted); with
    four-choice items, neutral texts and benign requests as what should stay as it was. All of `settings.split`."""
    wanted, unwanted = (
        load_pairs(task, None, settings.split, phrasings=settings.phrasings)
        for task in ("sycophancy", "genuine-agreement")
    )
    return Material(
        stance={"wanted": wanted, "unwanted": unwanted},
        answers={REFUSAL: load_pairs("over-refusal", None, "all")},
        items=list(choice_items()),
        texts=dict(list(neutral_texts(settings.split).items())[: settings.perplexity_texts]),
        replies={},
    )


def check_sides(stance: dict[str, list[Pair]]) -> None:
    """Raise `InputError` unless both sides are there, with equally many wordings of the same facts and ids once."""
    if set(stance) != set(SIDES):
        raise InputError("an axis has two sides", got=sorted(stance), allowed=list(SIDES))
    ids = Counter(pair.id for side in SIDES for pair in stance[side])
    if twice := [name for name, n in ids.items() if n > 1]:
        raise InputError("pairs of both sides need ids of their own", got=f"{twice[0]}, {ids[twice[0]]} times")
    counts = [Counter(pair.fact_id for pair in stance[side]) for side in SIDES]
    if counts[0] != counts[1]:
        odd = sorted(set(counts[0].items()) ^ set(counts[1].items()))[:3]
        raise InputError(
            "the two sides must be about the same facts, in equally many wordings",
            got=f"they differ in {', '.join(name for name, _ in odd)}",
            do="make a wanted and an unwanted pair for each cell",
        )
    if len(set(counts[0].values())) > 1:
        raise InputError("every fact needs equally many wordings", got=sorted(set(counts[0].values())))


def check_spared(material: Material) -> None:
    """Raise `InputError` unless some ability that should stay is in the material, each measure with two records, and for
    a system message apart from the conversations: nulls and doses are measured on these as they are."""
    if material.system is not None:
        raise InputError(
            "a selectivity analysis takes no system message of its own",
            got=repr(material.system[:60]),
            do="put it into the conversations with mechgate.data.pairs.with_system",
        )
    kinds = Counter("prose" if isinstance(text, str) else "chat" for text in material.texts.values())
    sizes = {f"answers, {name}": len(pairs) for name, pairs in material.answers.items()}
    sizes |= {f"texts, {name}": n for name, n in kinds.items()}
    sizes |= {"items": len(material.items)} if material.items else {}
    if few := sorted(name for name, n in sizes.items() if n < 2):
        raise InputError("a measure of damage needs at least two records", got=f"fewer of {'; '.join(few)}")
    if not material.items and not material.answers:
        raise InputError("the material has neither items nor answers", do="give some: abilities that should stay")
    if not material.texts:
        raise InputError("the material has no neutral texts", do="give some: doses are matched on them")


def some_facts(stance: dict[str, list[Pair]], n: int | None) -> dict[str, list[Pair]]:
    """Both sides on `n` of the facts, spread over their order (None: all). Raises `InputError` if there are fewer."""
    facts = list(dict.fromkeys(pair.fact_id for pair in stance["wanted"]))
    if n is None or n == len(facts):
        return stance
    if n > len(facts):
        raise InputError(
            "there are fewer facts than that",
            got=n,
            allowed=f"at most {len(facts)}",
            do="set facts, dose_facts and null_facts to fewer",
        )
    kept = {facts[i] for i in np.linspace(0, len(facts) - 1, n).round().astype(int)}
    return {side: [pair for pair in pairs if pair.fact_id in kept] for side, pairs in stance.items()}


def first_texts(material: Material, n: int) -> Sequence[str | Example]:
    """The first `n` neutral texts, or all if there are fewer."""
    return list(material.texts.values())[:n]
