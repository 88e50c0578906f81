"""Laws of screened nulls: exact moments, all members where they can be listed, and pairs that stay in their group."""

import itertools

import numpy as np
import pytest

from mechgate.analysis.screening import agreement, screened_flips, screened_permutations
from mechgate.errors import InputError


def test_flips_reach_every_signed_sum_equally_often():
    values = np.array([1.0, 0.25, -0.0625])
    found = screened_flips(values, draws=8000, seed=0)
    sums = {float(np.dot(s, values)) for s in itertools.product((-1, 1), repeat=3)}
    members, times = np.unique(found.round(6), return_counts=True)
    assert set(members) == sums
    assert np.abs(times - 1000).max() < 5 * 1000**0.5


def test_flips_have_the_moments_of_fair_signs():
    values = np.random.default_rng(0).normal(size=5000)
    found = screened_flips(values, draws=20_000, seed=1)
    assert abs(found.mean()) < 4 * found.std() / len(found) ** 0.5
    assert found.std() == pytest.approx(np.linalg.norm(values), rel=0.03)


def test_flips_need_few_draws_at_once_and_equal_seeds_give_equal_draws():
    values = np.random.default_rng(0).normal(size=9000)
    one, other = (screened_flips(values, draws=1500, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one)) > 1490
    assert not np.array_equal(one, screened_flips(values, draws=1500, seed=4))


def test_permutations_reach_every_pairing_equally_often():
    table = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]])
    found = screened_permutations(table, draws=6000, seed=0)
    sums = {float(sum(table[i, p] for i, p in enumerate(order))) for order in itertools.permutations(range(3))}
    members, times = np.unique(found, return_counts=True)
    assert set(members) == sums
    assert np.abs(times - 1000).max() < 5 * 1000**0.5


def test_every_table_is_permuted_on_its_own():
    tables = np.zeros((2, 2, 2))
    tables[0], tables[1] = [[1, 0], [0, 1]], [[4, 0], [0, 4]]
    members, times = np.unique(screened_permutations(tables, draws=4000, seed=0), return_counts=True)
    assert members.tolist() == [0, 2, 8, 10]
    assert np.abs(times - 1000).max() < 5 * 1000**0.5


def test_groups_are_never_left():
    table = np.full((4, 4), 1000.0)
    table[:2, :2], table[2:, 2:] = [[1, 2], [3, 5]], [[10, 20], [30, 50]]
    members = set(np.unique(screened_permutations(table, draws=500, seed=0, group=2)))
    assert members == {6 + 60, 6 + 50, 5 + 60, 5 + 50}
    assert set(screened_permutations(table, draws=10, seed=0, group=1)) == {66.0}


def test_agreement_is_the_correlation_and_slope_of_exact_on_screened():
    draw = np.random.default_rng(0)
    screened = draw.normal(size=100)
    exact = 0.8 * screened + 0.1 * draw.normal(size=100)
    found = agreement(screened, exact)
    slope, _ = np.polyfit(screened, exact, 1)
    assert (found["r"], found["slope"], found["draws"]) == pytest.approx(
        (np.corrcoef(screened, exact)[0, 1], slope, 100)
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: screened_flips([1.0], draws=0, seed=0), "at least one draw"),
        (lambda: screened_flips([], draws=1, seed=0), "another shape"),
        (lambda: screened_flips([[1.0]], draws=1, seed=0), "another shape"),
        (lambda: screened_flips([np.nan], draws=1, seed=0), "must be finite"),
        (lambda: screened_permutations([1.0], draws=1, seed=0), "another shape"),
        (lambda: screened_permutations(np.ones((2, 3)), draws=1, seed=0), "square"),
        (lambda: screened_permutations(np.ones((3, 3)), draws=1, seed=0, group=2), "whole groups"),
        (lambda: agreement([1, 2, 3], [1, 2]), "the same three or more draws"),
        (lambda: agreement([1, 1, 1], [1, 2, 3]), "different effects"),
    ],
)
def test_bad_input_is_one_clear_error(call, says):
    with pytest.raises(InputError, match=says):
        call()
