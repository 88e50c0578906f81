"""Laws of equivalence: passing is an interval inside its margin, errors and power are as stated."""

import json
import math
from statistics import fmean, stdev

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.weightstats import DescrStatsW

from mechgate.errors import InputError
from mechgate.stats.equivalence import item_margin, n_for_power, tost, tost_power

MARGINS = [0.5, (-0.5, 0.2), (None, 0.3), (-0.3, None)]


def sample(seed=0, n=30, mean=0.05):
    return np.random.default_rng(seed).normal(mean, 1, n), [f"fact-{i:03d}" for i in range(n)]


def slow_tost(values, clusters, low, high, level):
    """Cluster means by loops, and the two t tests of statsmodels."""
    means = [fmean(v for v, c in zip(values, clusters, strict=True) if c == fact) for fact in sorted(set(clusters))]
    tests = DescrStatsW(np.array(means))
    p_low = 0.0 if low is None else float(tests.ttest_mean(low, alternative="larger")[1])
    p_high = 0.0 if high is None else float(tests.ttest_mean(high, alternative="smaller")[1])
    interval = tuple(map(float, tests.tconfint_mean(alpha=1 - level)))
    return fmean(means), interval, max(p_low, p_high)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("level", [0.9, 0.98])
@pytest.mark.parametrize("mean", [-0.4, 0.0, 0.1, 0.35])
def test_the_test_is_the_two_t_tests_of_statsmodels(margin, level, mean):
    generator = np.random.default_rng(1)
    clusters = [f"fact-{i // 3}" for i in range(240)] + ["fact-0"] * 5
    values = 0.5 * np.repeat(generator.normal(size=80), 3) + generator.normal(mean, 0.5, 240)
    values = np.concatenate([values, np.ones(5)])
    found = tost(values, clusters, margin=margin, level=level)
    low, high = margin if isinstance(margin, tuple) else (-margin, margin)
    value, interval, p = slow_tost(values.tolist(), clusters, low, high, level)
    assert found.estimate.value == pytest.approx(value)
    assert (found.estimate.low, found.estimate.high) == pytest.approx(interval)
    assert found.p == pytest.approx(p, rel=1e-6, abs=1e-300)
    assert (found.n, found.estimate.n, found.margin, found.estimate.method) == (80, 80, (low, high), "t")
    assert found.estimate.level == level


def test_passing_is_the_interval_inside_the_margin_and_p_below_a_side_s_level():
    passed = 0
    for seed in range(60):
        values, clusters = sample(seed)
        for margin in MARGINS:
            for level in (0.5, 0.9):
                found = tost(values, clusters, margin=margin, level=level)
                low, high = (-math.inf if found.margin[0] is None else found.margin[0]), found.margin[1]
                inside = low < found.estimate.low and found.estimate.high < (math.inf if high is None else high)
                assert found.passed == inside == (found.p < (1 - level) / 2)
                passed += found.passed
    assert 60 < passed < 420


def test_an_interval_that_touches_its_margin_does_not_pass():
    values, clusters = sample()
    edge = tost(values, clusters, margin=1.0).estimate.high
    assert not tost(values, clusters, margin=(None, edge)).passed
    assert tost(values, clusters, margin=(None, math.nextafter(edge, 9))).passed


@pytest.mark.parametrize("margin", [0.5, (None, 0.3), (-0.3, 0.6)])
def test_a_true_difference_at_the_margin_passes_as_seldom_as_stated(margin):
    generator, runs, passed = np.random.default_rng(2), 1000, 0
    edge = margin if isinstance(margin, float) else margin[1] if margin[0] is None else margin[0]
    for _ in range(runs):
        passed += tost(generator.normal(edge, 1, 60), list(range(60)), margin=margin).passed
    assert abs(passed / runs - 0.05) < 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(
    ("n", "margin", "true"),
    [(4, 1.5, 0.0), (12, 0.7, 0.1), (40, (-0.3, 0.6), 0.0), (40, (None, 0.4), 0.1), (3, 1.0, 0.0), (60, 0.25, 0.0)],
)
def test_power_is_the_share_of_simulated_tests_that_pass(n, margin, true):
    generator, runs = np.random.default_rng(3), 40_000
    values = generator.normal(true, 2.0, (runs, n))
    half = scipy.stats.t.ppf(0.95, n - 1) * values.std(axis=1, ddof=1) / math.sqrt(n)
    low, high = margin if isinstance(margin, tuple) else (-margin, margin)
    scaled = (None if low is None else 2 * low, None if high is None else 2 * high)
    inside = np.ones(runs, dtype=bool) if scaled[0] is None else values.mean(axis=1) - half > scaled[0]
    inside &= True if scaled[1] is None else values.mean(axis=1) + half < scaled[1]
    power = tost_power(n, 2.0, margin=scaled, true=true)
    assert abs(power - inside.mean()) < 4 * math.sqrt(power * (1 - power) / runs)
    assert 0.02 < power < 0.98


@pytest.mark.parametrize("n", [2, 3, 10, 214, 5000, 100_000, 100_005])
@pytest.mark.parametrize("margin", [0.01, 0.2, 1.0])
def test_power_of_one_side_is_the_noncentral_t(n, margin):
    t = scipy.stats.t.ppf(0.95, n - 1)
    theirs = scipy.stats.nct.cdf(-t, n - 1, -margin * math.sqrt(n))
    assert tost_power(n, 1.0, margin=(None, margin)) == pytest.approx(theirs, abs=2e-6)
    assert tost_power(n, 1.0, margin=(-margin, None)) == pytest.approx(theirs, abs=2e-6)


@pytest.mark.parametrize(("deviation", "margin"), [(1, 0.5), (1, (None, 0.5)), (3, (-1, 4)), (1, 5.0), (0.7, 0.1)])
def test_the_n_needed_is_the_first_that_has_the_power(deviation, margin):
    found = n_for_power(deviation, margin=margin)
    powers = [tost_power(n, deviation, margin=margin) for n in range(2, found + 1)]
    assert [power >= 0.8 for power in powers] == [False] * (found - 2) + [True]


def test_a_fifth_of_a_deviation_takes_about_the_214_items_of_the_normal_formula():
    normal = scipy.stats.norm.ppf(0.95) + scipy.stats.norm.ppf(0.9)
    assert math.ceil((normal / 0.2) ** 2) == 215
    assert n_for_power(1.0, margin=0.2) == 216
    assert tost_power(214, 1.0, margin=0.2) == pytest.approx(0.8, abs=0.005)


def test_power_and_n_of_a_test_are_those_of_its_spread():
    values, clusters = sample(n=50)
    found = tost(2 * values, clusters, margin=0.6)
    assert found.power == tost_power(50, stdev((2 * values).tolist()), margin=0.6)
    assert found.n_for_80_power == n_for_power(stdev((2 * values).tolist()), margin=0.6)
    larger = tost(2 * values, clusters, margin=2.0)
    assert larger.power is not None
    assert found.power is not None
    assert larger.power > found.power


@pytest.mark.parametrize("factor", [1e-150, 1e-3, 1e90])
def test_the_unit_of_measure_changes_nothing(factor):
    values, clusters = sample()
    unit = tost(values, clusters, margin=(-0.5, 0.7))
    scaled = tost(factor * values, clusters, margin=(-0.5 * factor, 0.7 * factor))
    assert (scaled.p, scaled.power) == pytest.approx((unit.p, unit.power))
    assert (scaled.passed, scaled.n_for_80_power) == (unit.passed, unit.n_for_80_power)
    assert scaled.estimate.high == pytest.approx(factor * unit.estimate.high, rel=1e-9, abs=0)
    mirrored = tost(-values, clusters, margin=(-0.7, 0.5))
    assert (mirrored.p, mirrored.passed) == (pytest.approx(unit.p), unit.passed)


def test_order_and_repetition_of_the_rows_change_nothing():
    values, clusters = sample()
    once = tost(values, clusters, margin=0.5)
    order = np.random.default_rng(1).permutation(30)
    for other in (
        tost(values[order], [clusters[i] for i in order], margin=0.5),
        tost(np.tile(values, 3), clusters * 3, margin=0.5),
    ):
        assert (other.n, other.passed, other.n_for_80_power) == (30, once.passed, once.n_for_80_power)
        assert other.p == pytest.approx(once.p)
    assert item_margin(np.tile(values, 3), clusters * 3) == pytest.approx(item_margin(values))


@pytest.mark.parametrize("values", [[0.0] * 6, [0.1] * 6, [5.0] * 6, [0.1, 0.2, -0.3, 0.0, 0.0, 0.0]])
def test_differences_without_variation_are_uninformative_and_never_pass(recwarn, values):
    found = tost(values, ["a", "a", "a", "b", "b", "c"], margin=1.0)
    assert (found.passed, found.informative, found.p, found.n) == (False, False, 1.0, 3)
    assert (found.power, found.n_for_80_power, found.estimate.method) == (None, None, "constant")
    assert not recwarn
    assert tost([*values[:5], 0.3], ["a", "a", "a", "b", "b", "c"], margin=1.0).informative


def test_a_margin_far_away_has_a_p_value_above_zero():
    found = tost(*sample(n=300), margin=1e6)
    assert 0 < found.p < 1e-300
    assert (found.passed, found.power, found.n_for_80_power) == (True, pytest.approx(1.0), 2)


def test_the_item_margin_is_a_fifth_of_the_deviation_of_items_or_of_clusters():
    values, clusters = [1.0, 2.0, 4.0, 9.0], ["a", "a", "b", "c"]
    assert item_margin(values) == pytest.approx(0.2 * stdev(values))
    assert item_margin(values, clusters) == pytest.approx(0.2 * stdev([1.5, 4.0, 9.0]))
    assert item_margin([1e-200, 3e-200]) == pytest.approx(0.2 * stdev([1.0, 3.0]) * 1e-200, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0], "at least two items"), ([0.3, 0.1 + 0.2], "do not vary.*2 times 0.3"), ([1.0, math.nan], "nan in row 1")],
)
def test_an_item_margin_that_has_no_base_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        item_margin(values)


@pytest.mark.parametrize(
    "margin", [0.0, -1.0, math.nan, math.inf, (None, None), (0.1, 0.5), (-0.5, -0.1), (-1.0, 0.0), (1.0,), (0.5, -0.5)]
)
def test_an_unusable_margin_is_refused(margin):
    with pytest.raises(InputError, match=r"margin is not usable.*low < 0 < high"):
        tost(*sample(), margin=margin)
    with pytest.raises(InputError, match="margin is not usable"):
        tost_power(30, 1.0, margin=margin)
    with pytest.raises(InputError, match="margin is not usable"):
        n_for_power(1.0, margin=margin)


@pytest.mark.parametrize(
    ("values", "clusters", "options", "message"),
    [
        ([], [], {}, "too short"),
        ([1.0, 2.0], ["a", "a"], {}, "at least two clusters"),
        ([1.0, math.nan], ["a", "b"], {}, "nan in row 1"),
        ([1.0, 2.0], ["a"], {}, "differ in length"),
        ([1.0, 2.0], ["a", "b"], {"level": 0.4}, "0.5 to 0.999"),
        ([1.0, 2.0], ["a", "b"], {"level": math.nan}, "0.5 to 0.999"),
        ([1.0, 2.0], ["a", "b"], {"margin": 1e-9}, "too narrow to be tested.*0.7071"),
    ],
)
def test_unusable_differences_are_refused(values, clusters, options, message):
    with pytest.raises(InputError, match=message):
        tost(values, clusters, **({"margin": 1.0} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 1}, "n is not usable"),
        ({"n": 2.5}, "whole number"),
        ({"deviation": 0.0}, "deviation is not usable"),
        ({"deviation": math.nan}, "deviation is not usable"),
        ({"level": 1.0}, "0.5 to 0.999"),
    ],
)
def test_unusable_arguments_of_power_are_refused(options, message):
    arguments = {"n": 10, "deviation": 1.0, "margin": 1.0} | options
    with pytest.raises(InputError, match=message):
        tost_power(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": 1.0}, "power is not usable"),
        ({"true": 1.0}, "outside the margin"),
        ({"true": -1.5}, "outside the margin"),
        ({"deviation": -1.0}, "deviation is not usable"),
    ],
)
def test_unusable_arguments_of_the_n_needed_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        n_for_power(**({"deviation": 1.0, "margin": 1.0} | options))


def test_an_equivalence_is_plain_json():
    plain = json.loads(json.dumps(tost(*sample(), margin=(None, 0.5)).to_json(), allow_nan=False))
    assert plain["margin"] == [None, 0.5]
    assert set(plain) == {"estimate", "p", "margin", "passed", "n", "n_for_80_power", "power"}
    assert type(plain["passed"]) is bool
