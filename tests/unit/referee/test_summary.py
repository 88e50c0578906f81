"""Laws of the summaries: each number is what slow arithmetic on the same rows gives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechgate.errors import InputError
from mechgate.referee.summary import axis_at, by_set, canby, changes, curves, interaction, rank, rival, spared_abilities
from mechgate.stats.permutation import FEWEST_NULLS

Rows = Callable[..., pd.DataFrame]
STRENGTHS = (-2.0, -1.0, 1.0)
SEEDS = ("a", "b", "c")


@pytest.fixture
def cells() -> dict[tuple[str, float], np.ndarray]:
    draw = np.random.default_rng(0)
    return {(seed, s): draw.normal(size=(2, 5, 2)) + 2 * s for seed in SEEDS for s in STRENGTHS}


@pytest.fixture
def base() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 5, 2))


def test_changes_are_cells_minus_the_start_whatever_the_rows_order(made_up: Rows, cells: Any, base: Any) -> None:
    rows, start = made_up(cells), made_up({("", 0.0): base})
    at = rows[rows["strength"] == -1].sort_values(["set", "seed"], ascending=False)
    for k, side in enumerate(("wanted", "unwanted")):
        found = changes(at, start.sample(frac=1, random_state=0), side)
        assert found.seeds == SEEDS
        expected = np.stack([cells[seed, -1.0][k] - base[k] for seed in SEEDS])
        np.testing.assert_allclose(found.values, expected)
    with pytest.raises(InputError, match="not measured without gates"):
        changes(at, start[start["fact"] != "fact-03"], "wanted")


def test_each_set_and_strength_has_its_mean_changes(made_up: Rows, cells: Any, base: Any) -> None:
    found = by_set(made_up(cells), made_up({("", 0.0): base}))
    assert [(p["set"], p["strength"]) for p in found] == [(seed, s) for seed in SEEDS for s in STRENGTHS]
    for point in found:
        moved = cells[point["set"], point["strength"]] - base
        assert point["wanted"] == pytest.approx(moved[0].mean())
        assert point["unwanted"] == pytest.approx(moved[1].mean())


def test_the_axis_is_of_all_sets_at_one_strength(made_up: Rows, cells: Any, base: Any) -> None:
    found = axis_at(made_up(cells), made_up({("", 0.0): base}), -2.0, seed=0)
    e, a = (np.mean([cells[seed, -2.0][k] - base[k] for seed in SEEDS]) for k in (0, 1))
    assert (found.effect.value, found.side_effect.value) == pytest.approx((e, a))
    assert found.sigma is not None
    assert found.sigma.value == pytest.approx(1 - a / e)
    apart = interaction(made_up(cells), made_up({("", 0.0): base}), -2.0, seed=0)
    assert apart.value == pytest.approx(e - a)
    assert apart.p is not None
    assert 0 < apart.p <= 1


def test_curves_stand_on_the_facts_that_every_strength_has(made_up: Rows, cells: Any, base: Any) -> None:
    rows = made_up(cells)
    rows = rows[(rows["strength"] != -2) | rows["fact"].isin(["fact-00", "fact-02", "fact-04"])]
    found = curves(rows, made_up({("", 0.0): base}), seed=0)
    assert found["facts"] == 3
    for k, side in enumerate(("wanted", "unwanted")):
        level = {s: np.mean([(cells[seed, s][k] - base[k])[[0, 2, 4]] for seed in SEEDS]) for s in STRENGTHS}
        assert found[side]["start"]["value"] == pytest.approx(base[k][[0, 2, 4]].mean())
        assert {p["strength"]: p["change"]["value"] for p in found[side]["points"]} == pytest.approx(level)
        (odd,), (even,) = found[side]["odd"], found[side]["even"]  # 2 has no mirror image
        assert (odd["strength"], odd["part"]) == (1.0, pytest.approx((level[1] - level[-1]) / 2))
        assert (even["strength"], even["part"]) == (1.0, pytest.approx((level[1] + level[-1]) / 2))


def test_an_odd_curve_has_no_even_part(made_up: Rows, base: Any) -> None:
    slope = np.random.default_rng(2).normal(size=(2, 5, 2))
    rows = made_up({("a", s): base + s * slope for s in (-2, -1, 1, 2)})
    found = curves(rows, made_up({("", 0.0): base}), seed=0)
    for k, side in enumerate(("wanted", "unwanted")):
        assert [p["part"] for p in found[side]["even"]] == pytest.approx([0, 0], abs=1e-12)
        assert [p["part"] for p in found[side]["odd"]] == pytest.approx([slope[k].mean(), 2 * slope[k].mean()])


def test_harmonic_means_reach_one_only_for_full_reversal_that_spares(made_up: Rows) -> None:
    start = made_up({("", 0.0): np.zeros((2, 4, 1))})
    cell = np.zeros((2, 4, 1))
    cell[0] = -1000
    assert canby(made_up({("a", -1.0): cell}), start, -1.0)["harmonic mean"] == pytest.approx(1)
    assert canby(made_up({("a", 1.0): cell}), start, 1.0)["completeness"] == pytest.approx(0)
    cell[1] = -1000
    assert canby(made_up({("a", -1.0): cell}), start, -1.0)["selectivity"] == pytest.approx(0)


def dosed(made_up: Rows, cells: Any, why: str = "", **options: Any) -> pd.DataFrame:
    rows = made_up(cells, **options)
    return rows.assign(dose=-3.0, kl=0.5, why=why)


def lost(*names: str) -> pd.DataFrame:
    return pd.DataFrame([{"seed": name, "dose": None, "kl": 0.1, "why": "too weak"} for name in names])


def test_a_rival_is_held_against_the_sets_it_was_drawn_from(made_up: Rows, cells: Any, base: Any) -> None:
    rows, start = made_up(cells), made_up({("", 0.0): base})
    learned = rows[rows["strength"] == -1]
    null = {(seed, -3.0): base + 0.1 * i for i, seed in enumerate("ac")}
    found = rival(learned, pd.concat([dosed(made_up, null), lost("b")]), start, seed=0)
    own, side = (np.mean([cells[seed, -1.0][k] - base[k] for seed in "ac"]) for k in (0, 1))
    assert found["effect"].value == pytest.approx(abs(own) - 0.05)
    assert found["estimate"].value == pytest.approx(side - own)  # at s = -1; the null turns both sides alike
    assert found["unmatched"] == ["b: too weak"]
    assert [(s["set"], s["dose"], s["kl"]) for s in found["sets"]] == [("a", -3.0, 0.5), ("c", -3.0, 0.5)]
    assert [s["wanted"] for s in found["sets"]] == pytest.approx([0, 0.1])


def test_pairing_is_by_seed_and_not_by_the_order_of_rows(made_up: Rows, base: Any) -> None:
    start = made_up({("", 0.0): base})
    learned = made_up({(seed, -1.0): base - 5 - i for i, seed in enumerate(SEEDS)})
    null = {(seed, -3.0): base - 1 - i for i, seed in enumerate(SEEDS)}
    turned = dosed(made_up, dict(reversed(null.items())))
    for other in (dosed(made_up, null), turned):
        estimate = rival(learned, other, start, seed=0)["effect"]
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((4, 4, 4))  # pair by pair always 4


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_control_task_is_held_against_all_sets(made_up: Rows, cells: Any, base: Any, n: int) -> None:
    rows, start = made_up(cells), made_up({("", 0.0): base})
    learned = rows[rows["strength"] == -1]
    control = {(f"x-{i}", -4.0): base + i for i in range(n)}
    found = rival(learned, dosed(made_up, control), start, seed=0)
    own, side = (np.mean([cells[seed, -1.0][k] - base[k] for seed in SEEDS]) for k in (0, 1))
    assert found["effect"].value == pytest.approx(abs(own) - (n - 1) / 2)
    assert found["estimate"].value == pytest.approx(side - own)
    assert len(found["sets"]) == n


def test_a_strong_control_that_spares_nothing_does_not_outdo_gates_that_separate(made_up: Rows, base: Any) -> None:
    start = made_up({("", 0.0): base})
    apart = base + np.array([-3.0, 0.0])[:, None, None]
    learned = made_up({(seed, -1.0): apart for seed in SEEDS})
    found = rival(learned, dosed(made_up, {(f"x-{i}", -4.0): base - 9 for i in range(3)}), start, seed=0)
    assert found["effect"].high < 0
    assert found["estimate"].low == pytest.approx(3)
    same = rival(learned, dosed(made_up, {(f"x-{i}", -4.0): 2 * base - apart for i in range(3)}), start, seed=0)
    assert same["estimate"].value == pytest.approx(0)  # apart the other way is apart as well


def test_rivals_that_cannot_be_matched_give_none_and_say_why(made_up: Rows, cells: Any, base: Any) -> None:
    rows, start = made_up(cells), made_up({("", 0.0): base})
    found = rival(rows[rows["strength"] == -1], lost("a", "b"), start, seed=0)
    assert found == {"estimate": None, "effect": None, "sets": [], "unmatched": ["a: too weak", "b: too weak"]}


def test_the_rank_counts_sets_and_tasks_as_large_as_the_learned_effect() -> None:
    effects = {"x": [-1.0, 3.0], "y": [0.5], "z": [2.0] * 20, "none": []}
    found = rank(2.5, effects)
    assert (found["sets"], found["tasks"]) == (23, 3)
    assert found["p"] == pytest.approx(2 / 24)
    assert found["p_tasks"] == pytest.approx(1 / 4)
    assert rank(2.0, effects)["p"] == pytest.approx(22 / 24)  # ties count against it
    assert rank(0.1, effects)["p_tasks"] == 1
    assert rank(-2.5, effects)["p"] == 1  # apart the wrong way
    few = rank(9.0, {"x": [1.0] * (FEWEST_NULLS - 1)})
    assert few["p"] is None
    assert few["p_tasks"] == pytest.approx(1 / 2)
    assert rank(9.0, {"x": []}) == {"sets": 0, "p": None, "tasks": 0, "p_tasks": None}


def damage(shift: float, *, noise: float = 1.0, n: int = 300, damaged: float = 5.0) -> tuple[Any, Any]:
    """Items and texts whose values move by `shift` SD under two sets, and by `damaged` under known damage."""
    draw = np.random.default_rng(3)
    start, ids = draw.normal(size=n), [f"i{k}" for k in range(n)]
    moved = draw.normal(size=n)
    moved = noise * (moved - moved.mean()) / moved.std(ddof=1)
    arms = {"": 0 * moved, "a": moved + shift, "b": moved + shift, "damage": moved + damaged}
    parts = [
        pd.DataFrame({"id": ids, "set": "four-choice", "seed": seed, "value": start + d, "right": (start > 0) * 1})
        for seed, d in arms.items()
    ]
    texts = [
        pd.DataFrame({"id": ids, "set": "prose", "seed": seed, "tokens": 10, "nll": 20 + start + d / 10})
        for seed, d in arms.items()
    ]
    return pd.concat(parts, ignore_index=True), pd.concat(texts, ignore_index=True)


def test_what_does_not_move_is_spared_and_what_moves_is_not() -> None:
    found = spared_abilities(*damage(0.0), "damage")
    assert {name: test.passed for name, test in found.tests.items()} == {
        "four-choice margin": True,
        "perplexity, prose": True,
    }
    assert (found.blind, found.underpowered) == ([], {})
    described = found.described
    assert described["items"] == 300
    assert described["four-choice accuracy"]["start"] == pytest.approx(described["four-choice accuracy"]["gated"])
    tests = spared_abilities(*damage(0.5), "damage").tests
    assert not tests["four-choice margin"].passed


def test_margins_are_a_fifth_of_a_deviation_and_five_percent_of_perplexity() -> None:
    tests = spared_abilities(*damage(0.0, noise=2.0), "damage").tests
    assert tests["four-choice margin"].margin == pytest.approx((-0.4, 0.4))
    assert tests["perplexity, prose"].margin == (None, pytest.approx(np.log(1.05)))
    assert tests["four-choice margin"].n == 300  # sets are averaged item by item


def test_perplexity_may_fall_but_not_rise() -> None:
    for shift, passes in ((-20.0, True), (20.0, False)):
        assert spared_abilities(*damage(shift), "damage").tests["perplexity, prose"].passed is passes


@pytest.mark.parametrize("damaged", [0.0, 0.05])
def test_a_measure_that_misses_known_damage_is_blind(damaged: float) -> None:
    assert spared_abilities(*damage(0.0, damaged=damaged), "damage").blind == [
        "four-choice margin",
        "perplexity, prose",
    ]


def test_a_measure_that_never_moves_passes_nothing_and_is_no_error() -> None:
    found = spared_abilities(*damage(0.0, noise=0.0, damaged=0.0), "damage")
    assert not any(test.passed or test.informative for test in found.tests.values())
    assert found.blind == list(found.tests)


@pytest.mark.parametrize(("n", "judged"), [(300, True), (214, False), (72, False)])
def test_too_few_items_to_pass_are_not_judged_but_perplexity_always_is(n: int, judged: bool) -> None:
    found = spared_abilities(*damage(0.5, n=n), "damage")
    assert ("four-choice margin" in found.tests, "four-choice margin" in found.underpowered) == (judged, not judged)
    assert "perplexity, prose" in found.tests
    assert {name: entry["judged"] for name, entry in found.to_json().items()}["four-choice margin"] is judged


def test_without_items_nothing_is_said_of_accuracy() -> None:
    items, texts = damage(0.0)
    assert spared_abilities(items.drop(columns="right"), texts, "damage").described == {}
