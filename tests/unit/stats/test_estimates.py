"""Laws of the bootstrap: right coverage, clusters count and rows do not, nothing undefined comes out."""

import itertools
import json
import math
from statistics import NormalDist, fmean

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats import estimates
from mechgate.stats.estimates import Estimate, bootstrap_difference, bootstrap_interaction, bootstrap_mean


def rows(generator, facts=12, phrasings=4, between=1.0, within=0.5, mean=0.0, skewed=False):
    """Values and fact names of `facts` x `phrasings` rows with a shared part for each fact."""
    shared = generator.exponential(between, facts) if skewed else generator.normal(mean, between, facts)
    values = np.repeat(shared, phrasings) + generator.normal(0, within, facts * phrasings)
    return values, [f"fact-{i:03d}" for i in range(facts) for _ in range(phrasings)]


def slow_quantile(ordered, share):
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def slow_interval(values, clusters, *, seed, draws, level, method):
    """The textbook's cluster bootstrap (Efron and Tibshirani 1993, chapter 14) in loops."""
    facts = sorted(set(clusters))
    means = [fmean(v for v, c in zip(values, clusters, strict=True) if c == fact) for fact in facts]
    n, estimate = len(means), fmean(means)
    indices = rng(seed, "bootstrap").integers(0, n, (draws, n))
    resampled = sorted(fmean(means[i] for i in draw) for draw in indices.tolist())
    tail = (1 - level) / 2
    if method == "percentile":
        return slow_quantile(resampled, tail), slow_quantile(resampled, 1 - tail)
    if method == "basic":
        return 2 * estimate - slow_quantile(resampled, 1 - tail), 2 * estimate - slow_quantile(resampled, tail)
    normal = NormalDist()
    below = sum(1 for r in resampled if r < estimate) + sum(1 for r in resampled if r == estimate) / 2
    bias = normal.inv_cdf(below / draws)
    jackknife = [fmean(means[:i] + means[i + 1 :]) for i in range(n)]
    centre = fmean(jackknife)
    acceleration = sum((centre - j) ** 3 for j in jackknife) / (6 * sum((centre - j) ** 2 for j in jackknife) ** 1.5)

    def share(z):
        return normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))

    z = normal.inv_cdf(tail)
    return slow_quantile(resampled, share(z)), slow_quantile(resampled, share(-z))


@pytest.mark.parametrize("method", ["BCa", "percentile", "basic"])
@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_is_that_of_the_textbook_loop(method, level, skewed):
    values, clusters = rows(np.random.default_rng(3), facts=15, skewed=skewed)
    fast = bootstrap_mean(values, clusters, seed=5, draws=700, level=level, method=method)
    low, high = slow_interval(values.tolist(), clusters, seed=5, draws=700, level=level, method=method)
    assert (fast.low, fast.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)
    assert (fast.n, fast.method, fast.level) == (15, method, level)


def test_the_value_is_the_mean_of_cluster_means_and_not_of_rows():
    estimate = bootstrap_mean([0.0, 0.0, 0.0, 0.0, 1.0, 5.0], ["a", "a", "a", "a", "b", "c"], seed=0)
    assert estimate.value == pytest.approx(2.0)
    assert estimate.n == 3


def test_coverage_is_nominal_over_clusters_and_not_over_rows():
    generator, simulations, truth = np.random.default_rng(11), 300, 0.7
    by_fact = by_row = 0
    for i in range(simulations):
        values, clusters = rows(generator, facts=40, phrasings=5, mean=truth)
        fact = bootstrap_mean(values, clusters, seed=i, draws=600)
        row = bootstrap_mean(values, list(range(len(values))), seed=i, draws=600)
        by_fact += fact.low <= truth <= fact.high
        by_row += row.low <= truth <= row.high
    error = math.sqrt(0.95 * 0.05 / simulations)
    assert abs(by_fact / simulations - 0.95) < 3 * error
    assert by_row / simulations < 0.8


def test_coverage_of_independent_and_of_paired_interactions_is_nominal():
    generator, simulations = np.random.default_rng(12), 300
    apart = together = 0
    for i in range(simulations):
        first, names = rows(generator, facts=40, phrasings=2, mean=1.0)
        second, _ = rows(generator, facts=40, phrasings=2, mean=0.5, between=2.0)
        others = ["other " + name for name in names]
        estimate = bootstrap_interaction(first, names, second, others, seed=i, draws=600)
        apart += estimate.low <= 0.5 <= estimate.high
        both = first + 3 * np.repeat(generator.normal(size=40), 2)
        estimate = bootstrap_interaction(both, names, both - first, names, seed=i, draws=600)
        together += estimate.low <= 1.0 <= estimate.high
    error = math.sqrt(0.95 * 0.05 / simulations)
    assert abs(apart / simulations - 0.95) < 3 * error
    assert abs(together / simulations - 0.95) < 3 * error


def test_duplicating_every_row_changes_nothing():
    values, clusters = rows(np.random.default_rng(0))
    once = bootstrap_mean(values, clusters, seed=1)
    twice = bootstrap_mean(np.tile(values, 2), clusters * 2, seed=1)
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high), rel=1e-12)
    assert twice.n == once.n == 12


def test_the_order_of_the_rows_changes_nothing():
    values, clusters = rows(np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(len(values))
    once = bootstrap_mean(values, clusters, seed=1)
    mixed = bootstrap_mean(values[order], [clusters[i] for i in order], seed=1)
    assert (mixed.value, mixed.low, mixed.high) == pytest.approx((once.value, once.low, once.high), rel=1e-12)


@pytest.mark.parametrize("method", ["BCa", "percentile", "basic"])
@pytest.mark.parametrize("factor", [1e-120, 1e-3, 1e100])
def test_the_interval_scales_and_moves_with_the_data(method, factor):
    values, clusters = rows(np.random.default_rng(2), skewed=True)
    unit = bootstrap_mean(values, clusters, seed=1, draws=500, method=method)
    scaled = bootstrap_mean(factor * values, clusters, seed=1, draws=500, method=method)
    assert (scaled.low, scaled.high) == pytest.approx((factor * unit.low, factor * unit.high), rel=1e-9, abs=0)
    moved = bootstrap_mean(values - 40, clusters, seed=1, draws=500, method=method)
    assert (moved.low, moved.high) == pytest.approx((unit.low - 40, unit.high - 40), rel=1e-9)


def test_more_clusters_than_fit_in_one_batch_are_resampled_in_several(monkeypatch):
    values, clusters = rows(np.random.default_rng(2), facts=50)
    whole = bootstrap_mean(values, clusters, seed=1, draws=4000)
    monkeypatch.setattr(estimates, "_BATCH", 5000)
    parts = bootstrap_mean(values, clusters, seed=1, draws=4000)
    width = whole.high - whole.low
    assert abs(parts.low - whole.low) < 0.06 * width
    assert abs(parts.high - whole.high) < 0.06 * width


def test_a_wider_level_contains_a_narrower_one():
    values, clusters = rows(np.random.default_rng(4), skewed=True)
    found = [bootstrap_mean(values, clusters, seed=1, level=level) for level in (0.5, 0.8, 0.9, 0.95, 0.999)]
    for inner, outer in itertools.pairwise(found):
        assert outer.low < inner.low < inner.high < outer.high


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(
    "means", [[0, 1], [0] * 30 + [1], [1] * 30 + [0], [0, 0, 1e9], [-1, -1, 2], [1.0, 1.0 + 1e-11], [3e-300, 5e-300]]
)
def test_extreme_samples_have_finite_ordered_intervals_without_warnings(recwarn, means, level):
    for draws in (100, 1000):
        estimate = bootstrap_mean(means, list(range(len(means))), seed=0, draws=draws, level=level)
        assert estimate.method == "BCa"
        assert min(means) <= estimate.low <= estimate.high <= math.nextafter(max(means), math.inf)
    assert not recwarn


def test_equal_seeds_give_equal_results_and_other_seeds_others():
    values, clusters = rows(np.random.default_rng(5))
    second, others = rows(np.random.default_rng(6)), ["other " + c for c in clusters]
    for estimate in (
        lambda seed: bootstrap_mean(values, clusters, seed=seed, draws=300),
        lambda seed: bootstrap_difference(values, values**2, clusters, seed=seed, draws=300),
        lambda seed: bootstrap_interaction(values, clusters, second[0], others, seed=seed, draws=300),
    ):
        assert estimate(7) == estimate(7)
        assert estimate(7).value == estimate(8).value
        assert (estimate(7).low, estimate(7).high) != (estimate(8).low, estimate(8).high)


def test_the_global_generator_is_left_alone():
    values, clusters = rows(np.random.default_rng(5))
    before = repr(np.random.get_state(legacy=False))
    bootstrap_mean(values, clusters, seed=1, draws=200)
    assert repr(np.random.get_state(legacy=False)) == before


def test_a_paired_difference_is_the_mean_of_the_differences():
    a, clusters = rows(np.random.default_rng(8), between=5.0)
    b = a - 0.3 + np.random.default_rng(9).normal(0, 0.1, len(a))
    paired = bootstrap_difference(a, b, clusters, seed=2)
    assert paired == bootstrap_mean(a - b, clusters, seed=2)
    assert paired.low < 0.3 < paired.high
    assert paired.high - paired.low < 0.3
    swapped = bootstrap_difference(b, a, clusters, seed=2, method="percentile")
    forward = bootstrap_difference(a, b, clusters, seed=2, method="percentile")
    assert (swapped.low, swapped.high) == pytest.approx((-forward.high, -forward.low), rel=1e-9)


def test_an_interaction_over_the_same_clusters_is_paired_whatever_the_number_of_rows():
    first, names = rows(np.random.default_rng(1), phrasings=3, between=5.0)
    second = np.array([first[i * 3 : i * 3 + 3].mean() - 0.5 for i in range(12)]) + np.linspace(-0.1, 0.1, 12)
    paired = bootstrap_interaction(first, names, second, names[::3], seed=0)
    assert paired.n == 12
    assert paired.value == pytest.approx(0.5)
    assert 0.4 < paired.low < 0.5 < paired.high < 0.6
    apart = bootstrap_interaction(first, names, second, ["other " + n for n in names[::3]], seed=0)
    assert apart.n == 24
    assert apart.value == pytest.approx(0.5)
    assert apart.low < 0 < 1 < apart.high


def test_independent_interactions_have_the_standard_error_of_a_difference():
    first, names = rows(np.random.default_rng(1), facts=60, phrasings=1)
    second, _ = rows(np.random.default_rng(2), facts=60, phrasings=1, between=2.0)
    found = bootstrap_interaction(first, names, second, ["other " + n for n in names], seed=0)
    error = math.sqrt(first.var() / 60 + second.var() / 60)
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.04)


def test_partly_shared_clusters_are_refused():
    with pytest.raises(InputError, match="2 clusters in one only, among them a, c"):
        bootstrap_interaction([1.0, 2.0], ["a", "b"], [1.0, 2.0], ["b", "c"], seed=0)


@pytest.mark.parametrize("second", [["z"] * 3, ["x", "y", "z"]])
def test_neither_of_two_groups_may_be_a_single_cluster(second):
    values = [1.0, 2.0, 3.0]
    with pytest.raises(InputError, match="at least two clusters"):
        bootstrap_interaction(values, ["a", "a", "a"], values, second, seed=0)
    with pytest.raises(InputError, match="at least two clusters"):
        bootstrap_interaction(values, second, values, ["a", "a", "a"], seed=0)


def test_data_without_variation_have_an_interval_of_no_width_and_say_so(recwarn):
    names = ["a", "a", "a", "b", "b", "c"]
    found = bootstrap_mean([0.1] * 6, names, seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1), rel=1e-15)
    assert found.low == found.value == found.high
    assert (found.method, found.n) == ("constant", 3)
    assert bootstrap_mean([0, 0], [1, 2], seed=0) == Estimate(value=0.0, low=0.0, high=0.0, n=2, method="constant")
    assert bootstrap_difference([5.1, 7.1], [0.1, 2.1], ["a", "b"], seed=0).method == "constant"
    assert not recwarn


def test_rounding_is_not_taken_for_variation():
    found = bootstrap_interaction([0.1, 0.2, -0.3, 0.0], ["a", "a", "a", "b"], [0.0, 0.0], ["a", "b"], seed=0)
    assert found.method == "constant"
    assert found.low == found.high == pytest.approx(0, abs=1e-15)
    same = bootstrap_difference([0.1 + 0.2, 0.7], [0.3, 0.7], ["a", "b"], seed=0)
    assert 0.1 + 0.2 != 0.3
    assert (same.method, same.low) == ("constant", same.high)


def test_two_groups_need_variation_in_one_of_them_only():
    second, names = rows(np.random.default_rng(1), facts=40, phrasings=1)
    found = bootstrap_interaction([1.0, 1.0], ["c", "d"], second, names, seed=0)
    alone = bootstrap_mean(1 - second, names, seed=0)
    assert found.method == "BCa"
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.03)


GOOD = [1.0, 2.0, 3.0]
NAMES = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "too short"),
        ([1.0], ["a"], "at least two clusters"),
        (GOOD, ["a", "a", "a"], "at least two clusters"),
        ([1.0, math.nan, 3.0], NAMES, "nan in row 1"),
        ([1.0, 2.0, math.inf], NAMES, "inf in row 2"),
        ([1.0, 2.0, -1e200], NAMES, "row 2"),
        ([GOOD], NAMES, "one dimension"),
        (3.0, ["a"], "one dimension"),
        ([[1.0], [2.0, 3.0], []], NAMES, "not a vector of numbers"),
        ([1.0, None, 3.0], NAMES, "dtype object"),
        (["1", "2", "3"], NAMES, "not a vector of numbers"),
        ([1j, 2j, 3j], NAMES, "dtype complex128"),
        (GOOD, ["a", "b"], "3 values and 2 cluster names"),
        (GOOD, ["1", 1, "2"], r"\['int', 'str'\]"),
        (GOOD, [None, "a", "b"], "unusable kind"),
        (GOOD, [0.5, math.nan, 1.0], "unusable kind"),
    ],
)
def test_unusable_samples_are_refused(values, clusters, message):
    with pytest.raises(InputError, match=message):
        bootstrap_mean(values, clusters, seed=0)
    with pytest.raises(InputError, match=message):
        bootstrap_interaction(values, clusters, values, clusters, seed=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"draws": 99}, "at least 100"),
        ({"draws": 1e4}, "whole number"),
        ({"draws": True}, "whole number"),
        ({"level": 0.4}, "0.5 to 0.999"),
        ({"level": 95}, "0.5 to 0.999"),
        ({"level": math.nan}, "0.5 to 0.999"),
        ({"method": "bca"}, "Allowed: BCa, percentile, basic"),
    ],
)
@pytest.mark.parametrize("values", [GOOD, [1.0, 1.0, 1.0]], ids=["varying", "constant"])
def test_unusable_options_are_refused(values, option, message):
    with pytest.raises(InputError, match=message):
        bootstrap_mean(values, NAMES, seed=0, **option)


def test_a_difference_needs_the_same_rows():
    with pytest.raises(InputError, match="3 and 2 values"):
        bootstrap_difference(GOOD, [1.0, 2.0], NAMES, seed=0)


def test_an_interval_that_is_undefined_is_never_returned(monkeypatch):
    def undefined(*args, **kwargs):
        found = original(*args, **kwargs)
        found.confidence_interval = type(found.confidence_interval)(math.nan, math.nan)
        return found

    original = estimates.scipy.stats.bootstrap
    monkeypatch.setattr(estimates.scipy.stats, "bootstrap", undefined)
    with pytest.raises(InputError, match="BCa interval is undefined"):
        bootstrap_mean(GOOD, NAMES, seed=0)


@pytest.mark.parametrize("kind", [list, np.array, lambda names: np.array(names, dtype=object)])
def test_clusters_may_be_lists_or_arrays_of_strings_or_numbers(kind):
    expected = bootstrap_mean(GOOD, NAMES, seed=0)
    assert bootstrap_mean(GOOD, kind(NAMES), seed=0) == expected
    assert bootstrap_mean(np.array(GOOD, dtype=np.float32), kind([0, 1, 2]), seed=0) == expected
    assert bootstrap_mean(GOOD, list(np.arange(3)), seed=0) == expected


def test_proportions_may_be_given_as_booleans():
    assert bootstrap_mean([True, False, True], NAMES, seed=0).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((1.519, 1.311, 1.742), "+1.52 [+1.31, +1.74]"),
        ((-0.0321, -0.0412, -0.0203), "-0.032 [-0.041, -0.020]"),
        ((0.0, -0.0001, 0.0002), "+0.00000 [-0.00010, +0.00020]"),
        ((1234.5, 1000.0, 1500.0), "+1234.50 [+1000.00, +1500.00]"),
        ((0.0, 0.0, 0.0), "+0.00 [+0.00, +0.00]"),
        ((-0.001, -0.9, 0.9), "+0.00 [-0.90, +0.90]"),
        ((0.0004, 0.0004, 0.0004), "+0.00040 [+0.00040, +0.00040]"),
    ],
)
def test_estimates_print_with_digits_that_fit_their_interval(numbers, text):
    value, low, high = numbers
    assert str(Estimate(value=value, low=low, high=high, n=9, method="BCa")) == text


def test_estimates_survive_json_exactly():
    numbers: dict = {"value": np.float64(0.1), "low": np.float32(-0.5), "high": 1, "n": np.int64(4), "p": 0.05}
    found = Estimate(**numbers, method="BCa")
    back = Estimate(**json.loads(json.dumps(found.to_json())))
    assert back == found
    assert json.loads(json.dumps(bootstrap_mean(GOOD, NAMES, seed=0).to_json()))["p"] is None


def test_estimates_are_frozen_and_named():
    found = Estimate(value=0.0, low=0.0, high=0.0, n=2, method="constant")
    with pytest.raises(AttributeError):
        found.value = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Estimate(0.0, 0.0, 0.0, 0.95, 2, "constant")  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": math.nan},
        {"low": -math.inf},
        {"high": math.inf},
        {"low": 3.0},
        {"level": 1.0},
        {"level": 95},
        {"n": 0},
        {"n": 2.5},
        {"p": 0.0},
        {"p": 1.2},
        {"p": math.nan},
    ],
)
def test_an_estimate_that_makes_no_sense_cannot_be_built(wrong):
    with pytest.raises(InputError):
        Estimate(**({"value": 1.0, "low": 0.0, "high": 2.0, "n": 5, "method": "BCa"} | wrong))
