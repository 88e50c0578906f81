"""Laws of the p-values: uniform under the null, exact where all patterns fit, never 0 and never NaN."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from mechgate.errors import InputError
from mechgate.stats import permutation
from mechgate.stats.permutation import Alternative, p_from_null, sign_flip_p

ALTERNATIVES: tuple[Alternative, ...] = ("two-sided", "greater", "less")


def slow_p_from_null(observed, null, alternative, centre):
    extreme = 0
    for value in null:
        if alternative == "greater":
            extreme += value >= observed
        elif alternative == "less":
            extreme += value <= observed
        else:
            extreme += abs(value - centre) >= abs(observed - centre)
    return (extreme + 1) / (len(null) + 1)


def slow_sign_flip_p(values, alternative):
    """All sign patterns in exact fractions, so that ties are ties."""
    exact = [Fraction(str(value)) for value in values]
    observed, extreme = sum(exact), 0
    for signs in itertools.product([1, -1], repeat=len(exact)):
        flipped = sum(sign * value for sign, value in zip(signs, exact, strict=True))
        if alternative == "greater":
            extreme += flipped >= observed
        elif alternative == "less":
            extreme += flipped <= observed
        else:
            extreme += abs(flipped) >= abs(observed)
    return extreme / 2 ** len(exact)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("centre", [0, 2, -1])
def test_p_from_null_is_that_of_the_counting_loop(alternative, centre):
    generator = np.random.default_rng(0)
    for size in (19, 20, 99, 500):
        null = generator.integers(-4, 5, size)
        for observed in range(-6, 7):
            found = p_from_null(observed, null, alternative=alternative, centre=centre)
            assert found == slow_p_from_null(observed, null.tolist(), alternative, centre)


def test_p_from_null_never_falls_below_one_over_all_draws_and_one():
    null = np.linspace(-1, 1, 99)
    assert p_from_null(50.0, null) == p_from_null(-50.0, null) == 0.01
    assert p_from_null(50.0, null, alternative="greater") == 0.01
    assert p_from_null(50.0, null, alternative="less") == 1.0
    assert p_from_null(0.0, null) == 1.0


def test_two_sided_distances_are_taken_from_the_centre():
    null = np.linspace(9, 11, 99)
    assert p_from_null(12.0, null, centre=10.0) == p_from_null(8.0, null, centre=10.0) == 0.01
    assert p_from_null(8.0, null) == 1.0


def test_ties_up_to_rounding_count_against_the_observed_value():
    observed = 0.1 + 0.2
    assert observed > 0.3
    assert p_from_null(observed, [0.3] * 19) == 1.0
    assert p_from_null(observed, [0.3] * 19, alternative="greater") == 1.0
    assert p_from_null(-observed, [-0.3] * 19, alternative="less") == 1.0
    assert p_from_null(0.30001, [0.3] * 19) == 0.05


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_p_from_null_is_uniform_when_the_observed_value_is_one_of_the_null(alternative):
    generator = np.random.default_rng(1)
    draws = generator.normal(size=(1000, 200))
    found = [p_from_null(row[0], row[1:], alternative=alternative) for row in draws]
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize(
    ("observed", "null", "options", "message"),
    [
        (1.0, [0.0] * 18, {}, "18, so that p could not fall below 0.053"),
        (1.0, [], {}, "too short"),
        (math.nan, [0.0] * 19, {}, "nan"),
        (math.inf, [0.0] * 19, {}, "inf"),
        (1.0, [0.0] * 18 + [math.nan], {}, "nan in row 18"),
        (1.0, [[0.0] * 19], {}, "one dimension"),
        (1.0, [0.0] * 19, {"centre": math.nan}, "nan"),
        (1.0, [0.0] * 19, {"alternative": "two_sided"}, "did you mean 'two-sided'"),
    ],
)
def test_unusable_nulls_are_refused(observed, null, options, message):
    with pytest.raises(InputError, match=message):
        p_from_null(observed, null, **options)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [2, 3, 5, 8, 10])
def test_enumerated_sign_flips_are_exact(alternative, n):
    generator = np.random.default_rng(n)
    samples = [
        generator.normal(0.3, 1, n).round(3).tolist(),
        generator.integers(-3, 4, n).tolist(),
        (generator.integers(-3, 4, n) / 10).tolist(),
    ]
    for values in samples:
        assert sign_flip_p(values, seed=0, alternative=alternative) == slow_sign_flip_p(values, alternative)


def test_enumeration_ends_where_the_patterns_outnumber_the_draws():
    values = np.random.default_rng(0).normal(0.5, 1, 10)
    exact = slow_sign_flip_p(values.tolist(), "two-sided")
    assert sign_flip_p(values, seed=0, draws=1024) == exact
    sampled = {sign_flip_p(values, seed=seed, draws=1023) for seed in range(5)}
    assert len(sampled) > 1
    assert all((p * 1024) == pytest.approx(round(p * 1024), abs=1e-9) for p in sampled)


def test_enumerated_p_values_do_not_depend_on_the_seed():
    values = [0.4, -0.1, 0.8, 0.3, 0.2]
    assert len({sign_flip_p(values, seed=seed) for seed in range(5)}) == 1


def test_enumerated_p_values_have_the_floor_of_their_number_of_patterns():
    assert sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0], seed=0, alternative="greater") == 2**-5
    assert sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0], seed=0) == 2**-4
    assert sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0], seed=0, alternative="less") == 1.0


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_sampled_sign_flips_agree_with_enumeration(alternative):
    values = np.random.default_rng(3).normal(0.3, 1, 14)
    exact = sign_flip_p(values, seed=0, draws=2**14, alternative=alternative)
    sampled = sign_flip_p(values, seed=0, draws=2**14 - 1, alternative=alternative)
    assert sampled != exact
    assert abs(sampled - exact) < 4 * math.sqrt(exact * (1 - exact) / 2**14)


def test_sampled_sign_flips_agree_with_scipy():
    values = np.random.default_rng(4).normal(0.25, 1, 40)
    generator = np.random.default_rng(0)
    theirs = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=20_000, vectorized=True, rng=generator
    ).pvalue
    ours = sign_flip_p(values, seed=0, draws=20_000)
    assert abs(ours - theirs) < 5 * math.sqrt(2 * theirs * (1 - theirs) / 20_000)


def test_sampling_in_several_batches_counts_every_draw(monkeypatch):
    monkeypatch.setattr(permutation, "_BATCH", 100 * 30)
    assert sign_flip_p(np.ones(30), seed=0, draws=1050) == 1 / 1051
    assert sign_flip_p(np.ones(30), seed=0, draws=1050, alternative="less") == 1.0


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(("n", "draws"), [(12, 2**12), (30, 999)], ids=["enumerated", "sampled"])
def test_sign_flip_p_values_are_uniform_under_the_null(n, draws, alternative):
    generator, simulations = np.random.default_rng(n), 2000
    # Different scales and heavy tails: the test may need symmetry only.
    samples = generator.standard_t(2, (simulations, n)) * np.linspace(0.5, 3, n)
    found = [sign_flip_p(row, seed=i, draws=draws, alternative=alternative) for i, row in enumerate(samples)]
    # Six sets of p-values are checked twice, so each check is let off up to three standard errors.
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.003
    assert abs(np.mean(np.array(found) <= 0.05) - 0.05) < 3 * math.sqrt(0.05 * 0.95 / simulations)


def test_sign_flips_find_a_real_difference():
    values = np.random.default_rng(0).normal(1, 1, 30)
    assert sign_flip_p(values, seed=0) < 0.001
    assert sign_flip_p(values, seed=0, alternative="less") > 0.99


def test_rows_of_one_cluster_flip_together():
    means = [0.5, 0.25, 1.0, -0.125, 0.75]
    clusters = ["e", "b", "c", "d", "a"]
    values = [m + d for m in means for d in (-0.5, 0.0, 0.5)]
    names = [c for c in clusters for _ in range(3)]
    alone = sign_flip_p(means, seed=0)
    assert sign_flip_p(values, names, seed=0) == alone
    assert sign_flip_p(values * 2, names * 2, seed=0) == alone
    assert sign_flip_p(values, seed=0, draws=2**15) != alone


@pytest.mark.parametrize("n", [5, 40], ids=["enumerated", "sampled"])
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_no_difference_at_all_has_a_p_value_of_one(n, alternative):
    assert sign_flip_p(np.zeros(n), seed=0, draws=200, alternative=alternative) == 1.0


def test_sums_that_cancel_up_to_rounding_are_ties():
    for alternative in ALTERNATIVES:
        values = [0.1, 0.2, -0.3, 0.1, 0.2, -0.3]
        assert sign_flip_p(values, seed=0, alternative=alternative) == slow_sign_flip_p(values, alternative)


def test_equal_seeds_give_equal_p_values_and_other_seeds_others():
    values = np.random.default_rng(0).normal(0.2, 1, 40)
    assert sign_flip_p(values, seed=1) == sign_flip_p(values, seed=1)
    assert len({sign_flip_p(values, seed=seed) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "too short"),
        ([1.0], {}, "at least two clusters"),
        ([1.0, 2.0], {"clusters": ["a", "a"]}, "at least two clusters"),
        ([1.0, 2.0], {"clusters": ["a"]}, "differ in length"),
        ([1.0, math.nan], {}, "nan in row 1"),
        ([[1.0, 2.0]], {}, "one dimension"),
        ([1.0, 2.0], {"draws": 18}, "at least 19"),
        ([1.0, 2.0], {"draws": 100.0}, "whole number"),
        ([1.0, 2.0], {"alternative": "bigger"}, "alternative is not one"),
    ],
)
def test_unusable_differences_are_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        sign_flip_p(values, seed=0, **options)
