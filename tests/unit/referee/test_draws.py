"""Laws of null draws: exact ones are what null gates do, screened ones are distributed as their first order is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechgate.analysis.attribution import Screen, screen
from mechgate.analysis.behaviour import Material
from mechgate.analysis.dose import neutral_kl
from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs, neutral_inputs
from mechgate.gates.nulls import FAMILIES, null_gates
from mechgate.measure.margins import stance_margins
from mechgate.model.prompts import collate, encode_text
from mechgate.referee.draws import SIDES, TABLED, dosed_rows, draw_null, exact_nulls, recomputed_nulls, screened_nulls
from mechgate.seeding import stream_seed

Turned = Callable[..., GateSet]
STRENGTH = -1.5


@pytest.fixture(scope="module")
def stock(small_material: Callable[..., Material]) -> Material:
    return small_material(3)


@pytest.fixture(scope="module")
def pairs(stock: Material) -> list[Pair]:
    return [pair for side in SIDES for pair in stock.stance[side]]


@pytest.fixture(scope="module")
def whole(chat: Any, stock: Material, pairs: list[Pair]) -> Screen:
    return screen(chat, pairs, stock.stance_answers, label=None)


@pytest.fixture(scope="module")
def by_side(whole: Screen) -> dict[str, Screen]:
    return {"wanted": whole.only(range(3)), "unwanted": whole.only(range(3, 6))}


@pytest.fixture(scope="module")
def neutral(chat: Any) -> NeutralInputs:
    return neutral_inputs(chat, collate([encode_text(chat, t) for t in ("A letter came.", "The harbour was quiet.")]))


@pytest.mark.parametrize("family", ["row-sign", "group-permutation", "haar", "other-prompt", "dampener"])
def test_exact_draws_are_what_null_gates_of_the_same_seed_do(
    chat: Any, turned: Turned, stock: Material, whole: Screen, neutral: NeutralInputs, family: str
) -> None:
    gates = turned(1)
    options: dict[str, Any] = dict(draws=3, strength=STRENGTH, seed=7, neutral=neutral)
    found = exact_nulls(chat, gates, stock.stance, family, screened=whole, answers=stock.stance_answers, **options)
    assert list(found["draw"]) == list(range(3 if FAMILIES[family].seeded else 1))
    for row in found.to_dict("records"):
        null = null_gates(gates, family=family, seed=stream_seed(7, "null", family, row["draw"]), batch=neutral)
        first = STRENGTH * whole.effects(null)
        for k, side in enumerate(SIDES):
            with null.attached(chat, STRENGTH):
                margin = stance_margins(chat, stock.stance[side], stock.stance_answers, label=None)
            assert row[side] == pytest.approx(margin.mean(), abs=1e-4)
            assert row[f"{side}_first"] == pytest.approx(first[3 * k : 3 * k + 3].mean(), abs=1e-5)
    if family not in TABLED and FAMILIES[family].seeded:
        again = recomputed_nulls(whole, 3, gates, family, **options)
        for side in SIDES:
            np.testing.assert_allclose(again[side], found[f"{side}_first"])


def test_draws_differ_by_number_seed_and_family_and_agree_otherwise(turned: Turned, neutral: NeutralInputs) -> None:
    def value(family: str, draw: int, seed: int) -> bytes:
        null = draw_null(turned(1), family, draw, seed=seed, neutral=neutral)
        return null.gate(0).bias.detach().numpy().tobytes()

    assert value("row-sign", 0, 0) == value("row-sign", 0, 0)
    assert len({value(f, d, s) for f in ("row-sign", "haar") for d in (0, 1) for s in (0, 1)}) == 8


def test_a_screen_of_other_prompts_is_refused(
    chat: Any, turned: Turned, stock: Material, whole: Screen, neutral: NeutralInputs
) -> None:
    options: dict[str, Any] = dict(draws=1, strength=-1.0, seed=0, neutral=neutral)
    with pytest.raises(InputError, match="other prompts"):
        exact_nulls(chat, turned(1), stock.stance, "row-sign", screened=whole.only([0, 1]), **options)


def first_order(whole: Screen, gates: GateSet, family: str, neutral: NeutralInputs, draws: int) -> pd.DataFrame:
    """The first order of null gates drawn one by one."""
    nulls = [draw_null(gates, family, k, seed=1, neutral=neutral) for k in range(draws)]
    effects = STRENGTH * np.stack([whole.effects(null) for null in nulls])
    return pd.DataFrame({"wanted": effects[:, :3].mean(axis=1), "unwanted": effects[:, 3:].mean(axis=1)})


def patterns(table: pd.DataFrame) -> set[tuple[float, ...]]:
    return {tuple(row) for row in table[list(SIDES)].to_numpy().round(4).tolist()}


@pytest.mark.parametrize("granularity", ["element", "head"])
@pytest.mark.parametrize(("family", "members"), [("layer-sign", 8), ("group-permutation", 64)])
def test_a_small_family_is_screened_member_by_member_with_the_same_draw_on_both_sides(
    turned: Turned,
    whole: Screen,
    by_side: dict[str, Screen],
    neutral: NeutralInputs,
    family: str,
    members: int,
    granularity: str,
) -> None:
    gates = turned(1, granularity=granularity)
    found = screened_nulls(by_side, gates, family, draws=2000, strength=STRENGTH, seed=0, group=neutral.group)
    one_by_one = patterns(first_order(whole, gates, family, neutral, 30))
    members_found = patterns(found)

    def near(a: tuple[float, ...]) -> bool:
        return any(np.allclose(a, b, atol=2e-4) for b in members_found)

    assert all(near(pattern) for pattern in one_by_one)
    assert len(members_found) == members
    learned = STRENGTH * whole.effects(gates)
    assert near((learned[:3].mean(), learned[3:].mean()))  # all plus, or every head in its place


@pytest.mark.parametrize(
    ("family", "granularity"),
    [(f, g) for f in TABLED for g in ("element", "head") if (f, g) != ("dimension-permutation", "head")],
)
def test_screened_draws_have_the_moments_of_null_gates_first_order(
    turned: Turned,
    whole: Screen,
    by_side: dict[str, Screen],
    neutral: NeutralInputs,
    family: str,
    granularity: str,
) -> None:
    gates, draws = turned(1, granularity=granularity), 80
    options: dict[str, Any] = dict(strength=STRENGTH, seed=0, group=neutral.group)
    found = screened_nulls(by_side, gates, family, draws=20_000, **options)
    exact = first_order(whole, gates, family, neutral, draws)
    for side in SIDES:
        sd = found[side].std()
        assert abs(exact[side].mean() - found[side].mean()) < 4 * sd / draws**0.5
        assert 0.7 < exact[side].std() / sd < 1.4
        if family.endswith("sign"):
            assert abs(found[side].mean()) < 4 * sd / 20_000**0.5
    r = [np.corrcoef(table["wanted"], table["unwanted"])[0, 1] for table in (found, exact)]
    assert abs(np.arctanh(r[0]) - np.arctanh(r[1])) < 4 / draws**0.5  # both sides share draws
    assert screened_nulls(by_side, gates, family, draws=5, **options).equals(
        screened_nulls(by_side, gates, family, draws=5, **options)
    )


def test_strength_scales_screened_draws_and_scaled_gates_do_the_same(
    turned: Turned, by_side: dict[str, Screen]
) -> None:
    options: dict[str, Any] = dict(draws=20, seed=0, group=2)
    one = screened_nulls(by_side, turned(1), "row-sign", strength=1.0, **options)
    for gates, strength in ((turned(1), -2.0), (turned(1).scaled(-2.0), 1.0)):
        other = screened_nulls(by_side, gates, "row-sign", strength=strength, **options)
        np.testing.assert_allclose(other["wanted"], -2 * one["wanted"], rtol=1e-4, atol=1e-6)


def test_at_equal_dose_rows_are_measured_at_the_strength_found(chat: Any, turned: Turned, stock: Material) -> None:
    texts = list(stock.texts.values())[:2]
    (wanted,) = neutral_kl(chat, turned(2), [-0.7], texts)
    dose, rows = dosed_rows(chat, turned(2), stock, name="x", wanted=wanted, texts=texts, sign=-1)
    assert rows is not None
    assert dose.strength == pytest.approx(-0.7, rel=0.05)
    assert set(rows["strength"]) == {dose.strength}
    assert set(rows["seed"]) == {"x"}
    with turned(2).attached(chat, dose.strength or 0):
        margin = stance_margins(chat, stock.stance["wanted"], stock.stance_answers, label=None).mean()
    assert rows[rows["set"] == "wanted"]["value"].mean() == pytest.approx(margin, abs=1e-4)


@pytest.mark.parametrize("wanted", [0.0, -1e-9, 1e6])
def test_a_dose_that_cannot_be_matched_says_why(chat: Any, turned: Turned, stock: Material, wanted: float) -> None:
    dose, rows = dosed_rows(chat, turned(2), stock, name="x", wanted=wanted, texts=["A letter came."], sign=-1)
    assert rows is None
    assert dose.strength is None
    assert dose.why
