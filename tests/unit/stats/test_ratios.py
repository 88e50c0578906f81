"""Laws of the ratio of means and of shares."""

import numpy as np
import pytest
import scipy.stats

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.estimates import bootstrap_ratio, exact_share

FACTS = [f"fact-{i}" for i in range(60)]


def paired(seed, ratio=0.7, n=60):
    stream = rng(seed, "test ratio")
    bottom = stream.normal(3.0, 1.0, n)
    return ratio * bottom + stream.normal(0, 0.5, n), bottom


def test_it_is_the_ratio_of_means_and_not_the_mean_of_ratios():
    top, bottom = np.array([1.0, 9.0, 5.0, 5.0]), np.array([4.9, 5.1, 5.0, 5.2])
    assert bootstrap_ratio(top, bottom, FACTS[:4], seed=0).value == pytest.approx(top.mean() / bottom.mean())


def test_percentile_ends_are_those_of_the_slow_loop():
    top, bottom = paired(1)
    found = bootstrap_ratio(top, bottom, FACTS, seed=3, method="percentile", draws=4000)
    stream, ratios = rng(9, "another stream"), []
    for _ in range(4000):
        draw = stream.integers(0, 60, 60)
        ratios.append(top[draw].mean() / bottom[draw].mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.01)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    hits = 0
    for seed in range(300):
        found = bootstrap_ratio(*paired(seed), FACTS, seed=seed, draws=400)
        hits += found.low <= 0.7 <= found.high
    assert abs(hits / 300 - 0.95) <= 3 * (0.95 * 0.05 / 300) ** 0.5


def test_repeating_every_row_changes_nothing():
    top, bottom = paired(2)
    once = bootstrap_ratio(top, bottom, FACTS, seed=0)
    twice = bootstrap_ratio(np.tile(top, 2), np.tile(bottom, 2), FACTS * 2, seed=0)
    assert once == twice


def test_a_denominator_that_is_not_clear_of_zero_is_refused():
    stream = rng(0, "noise")
    with pytest.raises(InputError, match="not clear of 0"):
        bootstrap_ratio(stream.normal(1, 1, 60), stream.normal(0, 1, 60), FACTS, seed=0)


def test_denominators_of_one_sign_are_used_however_unequal():
    counts = np.array([3.0, 4.0, 900.0])
    found = bootstrap_ratio(counts * [2.0, 2.1, 2.2], counts, ["a", "b", "c"], seed=0)
    assert 2.0 <= found.low <= found.value <= found.high <= 2.2


def test_an_exact_multiple_has_an_interval_without_width():
    bottom = rng(0, "exact").normal(3, 0.5, 60)
    found = bootstrap_ratio(bottom * 0.5, bottom, FACTS, seed=0)
    assert (found.low, found.value, found.high, found.method) == (0.5, 0.5, 0.5, "constant")


def test_a_constant_ratio_is_seen_where_a_cluster_has_a_denominator_of_zero():
    bottom = np.array([0.0, *rng(0, "clear of 0").normal(3.0, 0.5, 59)])
    found = bootstrap_ratio(bottom * 0.5, bottom, FACTS, seed=0)
    assert (found.low, found.value, found.high, found.method) == (0.5, 0.5, 0.5, "constant")


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (20, 20), (3, 40), (1, 1)])
def test_a_share_has_the_clopper_pearson_interval(hits, n):
    found = exact_share(hits, n)
    low = scipy.stats.beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
    high = scipy.stats.beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0
    assert (found.value, found.low, found.high, found.n) == pytest.approx((hits / n, low, high, n))


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_a_share_that_is_none_is_refused(hits, n):
    with pytest.raises(InputError, match="hits are not a part of n"):
        exact_share(hits, n)
