"""Laws of printed p-values: a screen prints one only where enough exact draws say that it holds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechgate.referee.design import FOR_P
from mechgate.referee.nulls import _exact, _screened
from mechgate.referee.rivals import LEARNED

BASE = {"wanted": 1.0, "unwanted": 2.0}


def exact_rows(draws: int, noise: float) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    first = draw.normal(size=draws)
    moved = first + noise * draw.normal(size=draws)
    return pd.DataFrame({"wanted": 1 + moved, "unwanted": 2 + moved, "wanted_first": first, "unwanted_first": first})


def screened_rows(learned: float) -> pd.DataFrame:
    effects = np.random.default_rng(1).normal(size=999)
    nulls = pd.DataFrame({"family": "row-sign", "draw": range(999), "wanted": effects, "unwanted": effects})
    own = {"family": "row-sign", "draw": LEARNED, "wanted": learned, "unwanted": learned}
    return pd.concat([pd.DataFrame([own]), nulls], ignore_index=True)


def test_a_screen_that_holds_prints_the_rank_of_the_learned_gates() -> None:
    found = _screened(screened_rows(-9.0), exact_rows(FOR_P, 0.1), BASE)
    assert found["p"] == pytest.approx(1 / 1000)
    assert found["agreement"]["r"] > 0.95
    assert found["why no p"] == ""


@pytest.mark.parametrize(
    ("exact", "why"),
    [
        (None, "no exact draws"),
        (exact_rows(FOR_P - 1, 0.1), "too few"),
        (exact_rows(FOR_P, 1.0), "correlates with 99 exact draws at r = 0."),
        (exact_rows(FOR_P, 0.1) * 0, "do not vary"),
        (pd.DataFrame([{"family": "row-sign", "why": "cannot be"}]), "no exact draws"),
    ],
)
def test_a_screen_that_nobody_checked_or_that_fails_prints_none(exact: Any, why: str) -> None:
    found = _screened(screened_rows(-9.0), exact, BASE)
    assert found["p"] is None
    assert why in found["why no p"]


@pytest.mark.parametrize(("draws", "printed"), [(FOR_P, True), (FOR_P - 1, False)])
def test_exact_draws_print_a_p_from_ninety_nine_on(draws: int, printed: bool) -> None:
    found = _exact(exact_rows(draws, 0.0), {"wanted": 9.0}, BASE)
    assert found["p"] == (pytest.approx(1 / (draws + 1)) if printed else None)
