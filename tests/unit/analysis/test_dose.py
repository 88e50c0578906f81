"""Laws of dose matching: a matched gate set has the wanted KL, and one that cannot says so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.analysis.dose import FARTHEST, matched_dose, matched_strength, neutral_kl
from mechgate.data.sets import chat as exchanges
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.nulls import null_gates
from mechgate.model.prompts import collate, encode_text
from mechgate.model.scoring import final_hidden, logits_of

TEXTS = ["The harbour was quiet that morning.", "A letter came.", exchanges()[0].as_example()]
PLAIN = [text for text in TEXTS if isinstance(text, str)]


@pytest.fixture
def gates(chat: Any, shaken: Callable[..., GateSet]) -> GateSet:
    return shaken(GateSet.identity(chat), size=0.1)


def slow_kl(model: Any, gates: GateSet, strength: float) -> float:
    total, n = 0.0, 0
    for text in PLAIN:
        batch = collate([encode_text(model, text)])
        with torch.no_grad():
            base = logits_of(model, final_hidden(model, batch)).double().log_softmax(-1)[0, :-1]
            with gates.attached(model, strength):
                gated = logits_of(model, final_hidden(model, batch)).double().log_softmax(-1)[0, :-1]
        total += float((base.exp() * (base - gated)).sum())
        n += len(base)
    return total / n


def test_kl_is_that_of_whole_distributions_token_by_token(chat: Any, gates: GateSet) -> None:
    found = neutral_kl(chat, gates, [-1.0, 0.0, 2.0], PLAIN)
    np.testing.assert_allclose(found, [slow_kl(chat, gates, s) for s in (-1.0, 0.0, 2.0)], rtol=1e-3, atol=1e-6)
    assert found[0] > 1e-3


@pytest.mark.parametrize("strength", [-3.0, -1.0, -0.4, 0.7, 2.5])
def test_gates_matched_to_their_own_kl_are_found_at_their_strength(chat: Any, gates: GateSet, strength: float) -> None:
    (wanted,) = neutral_kl(chat, gates, [strength], TEXTS)
    found = matched_dose(chat, gates, wanted, TEXTS, sign=1 if strength > 0 else -1)
    assert found.strength == pytest.approx(strength, rel=0.05)
    assert found.reached == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_null_gets_the_strength_that_does_as_much(chat: Any, gates: GateSet, sign: int) -> None:
    (wanted,) = neutral_kl(chat, gates, [float(sign)], TEXTS)
    null = null_gates(gates, family="row-sign", seed=1)
    found = matched_dose(chat, null, wanted, TEXTS, sign=sign)
    assert found.strength is not None
    assert found.strength * sign > 0
    (there,) = neutral_kl(chat, null, [found.strength], TEXTS)
    assert there == pytest.approx(wanted, rel=0.05)


def test_what_does_nothing_cannot_be_matched_and_says_so(chat: Any) -> None:
    found = matched_dose(chat, GateSet.identity(chat), 0.1, TEXTS)
    assert found.strength is None
    assert found.reached == pytest.approx(0.0, abs=1e-6)
    assert found.why.endswith(f"even at {-FARTHEST:+g}")


def test_a_leap_over_the_wanted_value_is_no_match(chat: Any, gates: GateSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped(model: Any, gates: GateSet, strengths: list[float], texts: Any) -> list[float]:
        return [0.01 if abs(s) < 1.7 else 5.0 for s in strengths]

    monkeypatch.setattr("mechgate.analysis.dose.neutral_kl", stepped)
    found = matched_dose(chat, gates, 1.0, TEXTS)
    assert found.strength is None
    assert "leaps over the wanted value near -1.69" in found.why


@pytest.mark.parametrize(
    "bad", [{"wanted": 0.0}, {"wanted": float("nan")}, {"wanted": float("inf")}, {"sign": 0}, {"farthest": 0.0}]
)
def test_a_dose_that_makes_no_sense_is_refused(chat: Any, gates: GateSet, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be matched to that"):
        matched_dose(chat, gates, **{"wanted": 0.1, "texts": TEXTS, **bad})


def test_a_small_leap_finds_what_a_large_one_steps_over() -> None:
    def hump(s: float) -> float:  # rises to 2 at 2, and falls below 0 from 4 on
        return s * (4 - s) / 2

    found = matched_strength(hump, 1.95, what="effect", sign=1, leap=1.5)
    assert found.strength is not None
    assert hump(found.strength) == pytest.approx(1.95, rel=0.05)
    assert matched_strength(hump, 2.5, what="effect", sign=1, leap=1.5).strength is None
