"""What a section of the report is made of, and how numbers become the text of a cell. Plain text only: the page escapes it."""

import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

from mechgate.report.verdicts import shown

NONE = "–"
"""The cell of a number that is not there."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: `caption` says what its numbers are, in which unit and with which interval; the first `words` columns hold
    words (the first of them heads its row), the others numbers. `rows` are cells as text, as many a row as `columns`."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a model was asked and what it said: `replies` are pairs of a label (strength, stance) and the text."""

    prompt: str
    replies: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One question of the report.

    `label` is its short name, `how` the terms estimator, null, n and so on with their texts, `findings` and `caveats`
    sentences, `alts` what each figure shows, by the figure's name without RESULT ("" is the main one; the order is the
    page's), `primary` the numbers that two runs are compared by: estimates (value, low, high) or words, by label.
    """

    label: str
    how: tuple[tuple[str, str], ...] = ()
    findings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    caveats: tuple[str, ...] = ()
    quotes: tuple[Quote, ...] = ()
    alts: Mapping[str, str] = field(default_factory=dict)
    primary: Mapping[str, Any] = field(default_factory=dict)


def cell(estimate: Mapping[str, Any] | None, digits: int = 2) -> str:
    """`−3.05 [−3.36, −2.71]`; without its interval where there is none, a dash where there is no number."""
    if estimate is None or estimate["value"] is None:
        return NONE
    if estimate.get("low") is None or estimate.get("high") is None:
        return number(estimate["value"], digits)
    return minus(shown(estimate, digits))


def number(value: float | None, digits: int = 2) -> str:
    """A signed number with `digits` decimals and a true minus sign."""
    return NONE if value is None else minus(f"{value:+.{digits}f}")


def share(estimate: Mapping[str, Any] | None, digits: int = 0) -> str:
    """`12% [4%, 25%]`, with `digits` decimals."""
    if estimate is None or estimate["value"] is None:
        return NONE
    ends = [estimate.get("low"), estimate.get("high")]
    texts = [f"{one:.{digits}%}" for one in (estimate["value"], *(() if None in ends else ends))]
    return minus(texts[0] if None in ends else f"{texts[0]} [{texts[1]}, {texts[2]}]")


def p_value(p: float | None) -> str:
    """Two significant digits; powers of ten below one in a thousand."""
    if p is None:
        return NONE
    return f"{p:.2g}" if p >= 0.001 else f"{p:.0e}".replace("e-0", "e-").replace("-", "−")


def strength(s: float | str) -> str:
    """A gate strength: `+1`, `0`, `−1`."""
    return minus(f"{float(s):+g}") if float(s) else "0"


def minus(text: str) -> str:
    """Hyphens that stand before a number, and not within a word or name, as minus signs."""
    return re.sub(r"(?<![\w.-])-(?=\.?\d)", "−", text)


def is_estimate(value: Any) -> bool:
    """Whether a value of a result is a number with its interval."""
    return isinstance(value, Mapping) and {"value", "low", "high"} <= set(value)


def sets_of(members: Sized) -> str:
    """`5 gate sets (seeds)`."""
    n = len(members)
    return f"{n} gate set{'' if n == 1 else 's'} (seeds of one recipe)"
