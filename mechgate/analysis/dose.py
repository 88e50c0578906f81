"""At which strength does a null do as much as the learned gates do? Dose matching, by KL from the base on neutral text.

Gates of equal RMS(g - 1) do unequally much: in the pilot learned ones moved neutral text some thirty times as far as
row flips of them or a dampener did. A null that did nothing at strength s may only have been too small, so it is also asked at the
strength s* at which KL(base || null) equals the learned gates'.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from scipy.optimize import brentq

from mechgate.data.pairs import Example
from mechgate.errors import InputError
from mechgate.measure.capability import NeutralBase, neutral_base, neutral_text
from mechgate.model.dials import Dial

Texts = Sequence[str | Example] | NeutralBase
"""Neutral texts, or what `neutral_base` keeps of the base on them: for many doses."""
FARTHEST = 20.0
TOLERANCE = 0.05
"""How far, as a share of the wanted KL, a matched one may be off."""
ENOUGH = 0.01
"""How near it the search stops."""
LEAP = 4.0
"""How many times larger the next strength to try may be."""


@dataclass(frozen=True, kw_only=True)
class MatchedDose:
    """`strength` at which something has the wanted size, or None where it cannot be matched; then `why` says how near
    it came. `reached` is the size there (at the farthest strength tried, if not matched), in the unit of `wanted`."""

    strength: float | None
    reached: float
    wanted: float
    why: str = ""


def neutral_kl(model: Any, gates: Dial, strengths: Sequence[float], texts: Texts) -> list[float]:
    """KL(base || gated) at each strength: nats a token, over all tokens of `texts`."""
    if not isinstance(texts, NeutralBase):
        texts = neutral_base(model, texts)
    arms = [partial(gates.attached, model, strength) for strength in strengths]
    found = neutral_text(model, texts, arms, label=None)
    return [float(arm.kl.sum() / arm.tokens.sum()) for arm in found]


def matched_dose(
    model: Any,
    gates: Dial,
    wanted: float,
    texts: Texts,
    *,
    sign: int = -1,
    farthest: float = FARTHEST,
) -> MatchedDose:
    """The strength of `sign` at which KL(base || gates) on `texts` is `wanted` (nats a token), within 5%.

    A strength in the first bracket found on the way up from 1, up to `farthest` in size. "Cannot be matched" is a
    result, no error: a gate set may be too weak at any strength, or leap over the wanted value. Raises `InputError`
    unless `wanted` and `farthest` are positive and finite and `sign` is 1 or -1.
    """
    if not isinstance(texts, NeutralBase):
        texts = neutral_base(model, texts)
    kept: NeutralBase = texts
    # KL grows about as the square of strength.
    return matched_strength(
        lambda s: neutral_kl(model, gates, [s], kept)[0], wanted, what="KL", power=0.5, sign=sign, farthest=farthest
    )


def matched_strength(
    measure: Callable[[float], float],
    wanted: float,
    *,
    what: str,
    power: float = 1.0,
    sign: int = -1,
    farthest: float = FARTHEST,
    leap: float = LEAP,
) -> MatchedDose:
    """The strength of `sign` at which `measure(strength)` is `wanted`, within 5%; `what` names it.

    `measure` is 0 at strength 0, and to the `power` about proportional to strength. Where it may fall again further out
    (a model that breaks), a small `leap` keeps the search from stepping over its top: the next strength tried is at most so
    many times the last one. Otherwise as `matched_dose`.
    """
    if sign not in (1, -1) or not 0 < wanted < math.inf or not 0 < farthest < math.inf:
        raise InputError(
            "a dose cannot be matched to that",
            got=f"{what} {wanted}, sign {sign}, farthest {farthest}",
            allowed=f"{what} and farthest above 0, sign 1 or -1",
        )
    seen: dict[float, float] = {}

    def reached(size: float) -> float:
        if size not in seen:
            seen[size] = measure(sign * size)
        return seen[size]

    def off(size: float) -> float:
        """How far it is off on the scale where it grows with strength, 0 where that is near enough."""
        found = reached(size) if size else 0.0
        return 0.0 if abs(found - wanted) <= ENOUGH * wanted else max(found, 0.0) ** power - wanted**power

    low, high = 0.0, min(1.0, farthest)
    while off(high) < 0:
        if high == farthest:
            why = f"{what} {reached(high):.3g} even at {sign * high:+g}"
            return MatchedDose(strength=None, reached=reached(high), wanted=wanted, why=why)
        step = 1.1 * (wanted / max(reached(high), 1e-12)) ** power
        low, high = high, min(high * min(max(step, 1.2), leap), farthest)
    root: Any = brentq(off, low, high, xtol=2e-3 * high)
    best = min((size for size in seen if low <= size <= high), key=lambda size: abs(reached(size) - wanted))
    if abs(reached(best) - wanted) > TOLERANCE * wanted:
        why = f"{what} leaps over the wanted value near {sign * float(root):+.3g}"
        return MatchedDose(strength=None, reached=reached(best), wanted=wanted, why=why)
    return MatchedDose(strength=sign * best, reached=reached(best), wanted=wanted)
