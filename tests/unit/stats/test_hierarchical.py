"""Laws of the hierarchical bootstrap: all levels resampled, pairs kept, right coverage, nothing undefined comes out."""

import math
from statistics import NormalDist, fmean

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats import hierarchical
from mechgate.stats.estimates import bootstrap_mean
from mechgate.stats.grids import grid_from_rows
from mechgate.stats.hierarchical import hierarchical_bootstrap


def grid(generator, shape=(4, 15, 3), *, mean=1.0, seeds=0.3, facts=1.0, phrasings=0.5, cells=0.5):
    """Values with a part of each seed, of each fact, of each phrasing of a fact, and of each cell."""
    s, f, p = shape
    found = mean + seeds * generator.normal(size=(s, 1, 1)) + facts * generator.normal(size=(1, f, 1))
    return found + phrasings * generator.normal(size=(1, f, p)) + cells * generator.normal(size=shape)


def sigma(unwanted, wanted):
    return 1 - unwanted / wanted


def slow_draws(measures, seed, draws):
    """The grand means of each draw, cell by cell."""
    seeds, facts, phrasings = measures[0].shape
    streams = {level: rng(seed, "hierarchical bootstrap", level) for level in ("seeds", "facts", "phrasings")}
    found = []
    for _ in range(draws):
        taken_seeds = streams["seeds"].integers(0, seeds, seeds).tolist()
        cells = []
        for fact in streams["facts"].integers(0, facts, facts).tolist():
            taken = streams["phrasings"].integers(0, phrasings, phrasings).tolist() if phrasings > 1 else [0]
            cells += [(fact, phrasing) for phrasing in taken]
        found.append([fmean(float(m[s, f, p]) for s in taken_seeds for f, p in cells) for m in measures])
    return found


def slow_bca(value, drawn, samples, level):
    """Efron and Tibshirani 1993, chapter 14, with the acceleration of several samples."""
    normal = NormalDist()
    bias = normal.inv_cdf(sum((d < value) + (d == value) / 2 for d in drawn) / len(drawn))
    cubes = squares = 0.0
    for left_out in samples:
        n, centre = len(left_out), fmean(left_out)
        influences = [(n - 1) * (centre - one) for one in left_out]
        cubes += sum(i**3 for i in influences) / n**3
        squares += sum(i**2 for i in influences) / n**2
    acceleration = cubes / squares**1.5 / 6
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(share)
        ends.append(float(np.quantile(drawn, normal.cdf(bias + z / (1 - acceleration * z)))))
    return ends


def slow_left_out(measures, statistic):
    seeds, facts, _ = measures[0].shape
    without_facts = [statistic(*(np.delete(m, i, axis=1).mean() for m in measures)) for i in range(facts)]
    without_seeds = [statistic(*(np.delete(m, i, axis=0).mean() for m in measures)) for i in range(seeds)]
    return [without_facts, without_seeds]


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("shape", [(4, 15, 3), (1, 15, 3), (4, 15, 1), (1, 15, 1)])
@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_is_that_of_the_loop_over_cells(method, shape, paired):
    generator = np.random.default_rng(1)
    wanted = grid(generator, shape, mean=4.0) + generator.exponential(1, shape)
    measures = [0.3 * wanted + grid(generator, shape, mean=0.0), wanted] if paired else [wanted]
    statistic = sigma if paired else lambda mean: mean
    drawn = [statistic(*means) for means in slow_draws(measures, 5, 300)]
    value = float(statistic(*(m.mean() for m in measures)))
    left_out = slow_left_out(measures, statistic) if shape[0] > 1 else None
    if method == "percentile":
        expected = np.quantile(drawn, [0.05, 0.95]).tolist()
    else:
        samples = left_out or [[statistic(*(np.delete(m, i, axis=1).mean() for m in measures)) for i in range(15)]]
        expected = slow_bca(value, drawn, samples, 0.9)
    found = hierarchical_bootstrap(
        tuple(measures), seed=5, draws=300, level=0.9, method=method, statistic=statistic if paired else None
    )
    assert found.value == pytest.approx(value, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-9)
    levels = ", ".join(["seeds"] * (shape[0] > 1) + ["facts"] + ["phrasings"] * (shape[2] > 1))
    assert (found.n, found.level, found.method) == (15, 0.9, f"hierarchical {method} over {levels}")


def variance_of_draws(values):
    found = hierarchical_bootstrap(values, seed=0, draws=20_000, level=0.6827)
    return ((found.high - found.low) / 2) ** 2


def test_each_level_adds_the_variance_that_theory_gives_it():
    generator = np.random.default_rng(2)
    s, f, p = 40, 30, 4
    by_seed, by_fact, by_phrasing = generator.normal(size=s), generator.normal(size=f), generator.normal(size=(f, p))
    only_seeds = np.broadcast_to(by_seed[:, None, None], (s, f, p))
    only_facts = np.broadcast_to(by_fact[None, :, None], (s, f, p))
    only_phrasings = np.broadcast_to((by_phrasing - by_phrasing.mean(axis=1, keepdims=True))[None], (s, f, p))
    assert variance_of_draws(only_seeds) == pytest.approx(by_seed.var() / s, rel=0.06)
    assert variance_of_draws(only_facts) == pytest.approx(by_fact.var() / f, rel=0.06)
    assert variance_of_draws(only_phrasings) == pytest.approx(only_phrasings[0].var() / (f * p), rel=0.06)


def test_one_seed_and_one_phrasing_give_the_plain_bootstrap_over_facts():
    values = grid(np.random.default_rng(3), (1, 50, 1))
    nested = hierarchical_bootstrap(values, seed=0, method="BCa")
    plain = bootstrap_mean(values.ravel(), list(range(50)), seed=0)
    assert (nested.low, nested.high) == pytest.approx((plain.low, plain.high), abs=0.02 * (plain.high - plain.low))


@pytest.mark.parametrize(
    ("shape", "parts", "least", "most"),
    [
        ((1, 40, 1), {"seeds": 0.0}, 0.91, 0.985),
        ((1, 40, 2), {"seeds": 0.0}, 0.91, 0.99),
        ((20, 30, 2), {"seeds": 0.5}, 0.91, 0.99),
    ],
)
def test_coverage_is_nominal_or_a_little_above(shape, parts, least, most):
    generator, runs = np.random.default_rng(11), 300
    covered = 0
    for i in range(runs):
        found = hierarchical_bootstrap(grid(generator, shape, **parts), seed=i, draws=400)
        covered += found.low <= 1.0 <= found.high
    assert least < covered / runs < most


def test_coverage_of_a_ratio_of_paired_measures_is_nominal_or_a_little_above():
    generator, runs, covered = np.random.default_rng(12), 300, 0
    for i in range(runs):
        wanted = grid(generator, (10, 40, 2), mean=4.0)
        unwanted = 0.4 * wanted + grid(generator, (10, 40, 2), mean=0.0, seeds=0.1, facts=0.5)
        found = hierarchical_bootstrap((unwanted, wanted), seed=i, draws=300, statistic=sigma)
        covered += found.low <= 0.6 <= found.high
    assert covered / runs > 0.91


def test_ignoring_seeds_that_differ_covers_far_too_seldom():
    generator, runs, with_seeds, without = np.random.default_rng(13), 150, 0, 0
    for i in range(runs):
        values = grid(generator, (10, 40, 1), seeds=1.0)
        whole = hierarchical_bootstrap(values, seed=i, draws=300)
        pooled = hierarchical_bootstrap(values.mean(axis=0, keepdims=True), seed=i, draws=300)
        with_seeds += whole.low <= 1.0 <= whole.high
        without += pooled.low <= 1.0 <= pooled.high
    assert without / runs < 0.75 < 0.88 < with_seeds / runs


def test_pairs_keep_what_the_measures_share():
    generator = np.random.default_rng(4)
    second = grid(generator, facts=20.0)
    first = second + 0.5 + generator.normal(0, 0.1, second.shape)
    found = hierarchical_bootstrap((first, second), seed=1, statistic=np.subtract)
    alone = hierarchical_bootstrap(first - second, seed=1)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=1e-9)
    assert 0.4 < found.low < 0.5 < found.high < 0.6


def test_copies_of_the_only_seed_change_nothing():
    values = grid(np.random.default_rng(5), (1, 15, 3))
    once = hierarchical_bootstrap(values, seed=1)
    copied = hierarchical_bootstrap(np.tile(values, (4, 1, 1)), seed=1)
    assert (copied.value, copied.low, copied.high) == pytest.approx((once.value, once.low, once.high), rel=1e-12)
    assert copied.n == once.n == 15


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("factor", [1e-120, 1e-3, 1e100])
def test_the_interval_scales_and_moves_with_the_data(method, factor):
    values = grid(np.random.default_rng(6))
    unit = hierarchical_bootstrap(values, seed=1, draws=500, method=method)
    scaled = hierarchical_bootstrap(factor * values, seed=1, draws=500, method=method)
    assert (scaled.low, scaled.high) == pytest.approx((factor * unit.low, factor * unit.high), rel=1e-9, abs=0)
    moved = hierarchical_bootstrap(values - 40, seed=1, draws=500, method=method)
    assert (moved.low, moved.high) == pytest.approx((unit.low - 40, unit.high - 40), rel=1e-9)


def test_the_order_of_the_rows_changes_nothing():
    values = grid(np.random.default_rng(7))
    at = [index.ravel() for index in np.indices(values.shape)]
    order = np.random.default_rng(8).permutation(values.size)
    found = grid_from_rows(values.ravel()[order], *(index[order] for index in at))
    assert hierarchical_bootstrap(found, seed=1, draws=300) == hierarchical_bootstrap(values, seed=1, draws=300)


def test_batches_change_nothing(monkeypatch):
    values = grid(np.random.default_rng(9))
    whole = hierarchical_bootstrap(values, seed=1, draws=1000)
    monkeypatch.setattr(hierarchical, "_BATCH", 7 * 45)
    parts = hierarchical_bootstrap(values, seed=1, draws=1000)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_equal_seeds_give_equal_results_and_other_seeds_others():
    values = grid(np.random.default_rng(10))
    found = [hierarchical_bootstrap(values, seed=seed, draws=300) for seed in (7, 7, 8)]
    assert found[0] == found[1]
    assert (found[0].low, found[0].high) != (found[2].low, found[2].high)


def test_what_does_not_vary_has_an_interval_of_no_width_and_says_so(recwarn):
    values = grid(np.random.default_rng(14))
    for measures, statistic, value in (
        ((np.full((3, 4, 2), 0.1),), None, 0.1),
        ((np.zeros((3, 4, 2)),), None, 0.0),
        ((0.3 * values, values), sigma, 0.7),
        ((values, values), sigma, 0.0),
        ((values + 0.1, values), np.subtract, 0.1),
    ):
        for method in ("percentile", "BCa"):
            found = hierarchical_bootstrap(measures, seed=0, draws=200, method=method, statistic=statistic)
            assert found.low == found.value == found.high == pytest.approx(value, abs=1e-12)
            assert (found.method, found.n) == ("constant", measures[0].shape[1])
    assert not recwarn


def test_small_variation_is_not_taken_for_rounding():
    values = 1 + 1e-9 * grid(np.random.default_rng(14))
    assert hierarchical_bootstrap(values, seed=0, draws=200).method != "constant"


def test_a_statistic_that_is_not_finite_in_some_draws_is_refused_with_their_number(recwarn):
    bottom = np.zeros((1, 3, 1))
    bottom[0, 0, 0] = 1.0  # a draw without this fact, of which there are (2/3)^3, divides by 0
    drawn = [means[0] for means in slow_draws([bottom], 2, 500)]
    unusable = sum(mean == 0 for mean in drawn)
    assert 100 < unusable < 200
    with pytest.raises(InputError, match=f"not finite in some draws.*{unusable} of 500"):
        hierarchical_bootstrap((bottom + 1, bottom), seed=2, draws=500, statistic=np.divide)
    with pytest.raises(InputError, match="not finite on the data"):
        hierarchical_bootstrap((bottom, 0 * bottom), seed=2, draws=500, statistic=np.divide)
    assert not recwarn


def test_bca_is_refused_where_it_is_undefined():
    # Fact and seed means are all equal, so leaving one out tells nothing.
    values = np.broadcast_to(np.array([-1.0, 1.0]), (2, 5, 2))
    assert hierarchical_bootstrap(values, seed=0, draws=200).method.startswith("hierarchical percentile")
    with pytest.raises(InputError, match=r"BCa interval is undefined.*percentile"):
        hierarchical_bootstrap(values, seed=0, draws=200, method="BCa")
    # The estimate is the largest value the statistic can take, and hardly a draw reaches it.
    varied, centre = grid(np.random.default_rng(0)), float(grid(np.random.default_rng(0)).mean())
    with pytest.raises(InputError, match="a share 1 of the draws below"):
        hierarchical_bootstrap(varied, seed=0, draws=200, method="BCa", statistic=lambda m: -np.abs(m - centre - 1e-14))


@pytest.mark.parametrize(
    ("statistic", "message"),
    [
        (lambda a, b: 1.0, "element by element on vectors.*shape \\(\\)"),
        (lambda a, b: a.mean() - b.mean(), "element by element on vectors"),
        (lambda a, b: a - b.mean(), "must work element by element.*for one draw alone"),
        (lambda a, b: np.stack([a, b]), "shape \\(2, 1\\)"),
        (lambda a, b: np.array(["x"] * a.size), "element by element"),
        (None, "need a statistic.*2 measures"),
    ],
)
def test_a_statistic_that_mixes_draws_is_refused(statistic, message):
    values = grid(np.random.default_rng(0))
    with pytest.raises(InputError, match=message):
        hierarchical_bootstrap((values**2, values), seed=0, draws=200, statistic=statistic)


GOOD = np.arange(24.0).reshape(2, 4, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GOOD[0], "three dimensions.*shape \\(4, 3\\)"),
        ((), "no measure"),
        (GOOD[:, :1], "at least two facts.*2 seeds, 1 facts, 3 phrasings"),
        (GOOD[:0], "0 seeds"),
        (GOOD[:, :, :0], "0 phrasings"),
        (np.where(GOOD == 5, math.nan, GOOD), "measure 0 has 1 values.*nan in row 5"),
        (GOOD * 1e149, "finite numbers"),
        (GOOD.astype(str), "not a vector of numbers"),
        ((GOOD, GOOD[:, :3]), "differ in shape"),
    ],
)
def test_unusable_measures_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        hierarchical_bootstrap(values, seed=0, statistic=lambda *means: means[0])


def test_measures_of_other_facts_are_no_pairs():
    at = [index.ravel() for index in np.indices(GOOD.shape)]
    first, second = (grid_from_rows(GOOD.ravel(), at[0], at[1] + moved, at[2]) for moved in (0, 1))
    with pytest.raises(InputError, match="not paired"):
        hierarchical_bootstrap((first, second), seed=0, statistic=np.subtract)
    found = hierarchical_bootstrap((first, first), seed=0, draws=200, statistic=np.add)
    assert found.value == pytest.approx(2 * GOOD.mean())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"draws": 99}, "at least 100"),
        ({"draws": 1e4}, "whole number"),
        ({"level": 0.4}, "0.5 to 0.999"),
        ({"level": math.nan}, "0.5 to 0.999"),
        ({"method": "basic"}, "Allowed: percentile, BCa"),
    ],
)
@pytest.mark.parametrize("values", [GOOD, 0 * GOOD], ids=["varying", "constant"])
def test_unusable_options_are_refused(values, option, message):
    with pytest.raises(InputError, match=message):
        hierarchical_bootstrap(values, seed=0, **option)
