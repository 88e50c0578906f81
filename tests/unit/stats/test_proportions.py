"""Laws of clustered shares: rows that go together count for less, and never for more than they are."""

import math
from statistics import fmean

import numpy as np
import pytest
import scipy.stats

from mechgate.errors import InputError
from mechgate.stats.estimates import exact_share
from mechgate.stats.proportions import clustered_share, icc, n_effective


def slow_icc(values, clusters):
    groups = {name: [v for v, c in zip(values, clusters, strict=True) if c == name] for name in clusters}
    n, k, centre = len(values), len(groups), fmean(values)
    between = sum(len(g) * (fmean(g) - centre) ** 2 for g in groups.values()) / (k - 1)
    within = sum((v - fmean(g)) ** 2 for g in groups.values() for v in g) / (n - k)
    size = (n - sum(len(g) ** 2 for g in groups.values()) / n) / (k - 1)
    return (between - within) / (between + (size - 1) * within)


def rows(generator, facts=20, sizes=(1, 2, 5), correlation=0.4):
    each = generator.choice(sizes, facts)
    shared = generator.normal(0, math.sqrt(correlation), facts)
    clusters = [f"fact-{i}" for i, size in enumerate(each) for _ in range(size)]
    return np.repeat(shared, each) + generator.normal(0, math.sqrt(1 - correlation), each.sum()), clusters


def draw_hits(generator, facts, size, share, correlation):
    """Hits whose clusters have beta-distributed shares, so that two rows of one cluster correlate as asked."""
    spread = 1 / correlation - 1
    of_fact = generator.beta(share * spread, (1 - share) * spread, facts)
    return (generator.random((facts, size)) < of_fact[:, None]).ravel(), np.repeat(np.arange(facts), size)


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("sizes", [(3,), (1, 2, 5), (2, 40)])
def test_the_correlation_is_that_of_the_analysis_of_variance_by_loops(sizes, correlation):
    values, clusters = rows(np.random.default_rng(0), sizes=sizes, correlation=correlation)
    assert icc(values, clusters) == pytest.approx(slow_icc(values.tolist(), clusters), rel=1e-9)


def test_the_correlation_agrees_with_the_f_test_of_scipy():
    values, clusters = rows(np.random.default_rng(1), sizes=(4,))
    f = scipy.stats.f_oneway(*(values[np.array(clusters) == name] for name in set(clusters))).statistic
    assert icc(values, clusters) == pytest.approx((f - 1) / (f + 3))


def test_the_correlation_is_right_on_average():
    generator = np.random.default_rng(2)
    for truth in (0.0, 0.3, 0.7):
        found = [icc(*rows(generator, facts=100, correlation=truth)) for _ in range(200)]
        assert abs(np.mean(found) - truth) < 4 * np.std(found) / math.sqrt(200) + 0.01


def test_equal_rows_correlate_fully_and_opposed_ones_as_little_as_can_be():
    assert icc([1.0, 1.0, 2.0, 2.0, 5.0], ["a", "a", "b", "b", "c"]) == 1.0
    assert icc([0.0, 2.0, 4.0, 0.0, 2.0, 4.0], ["a", "a", "a", "b", "b", "b"]) == pytest.approx(-1 / 2)


@pytest.mark.parametrize("factor", [-1e-200, 1e-3, 1e100])
def test_the_correlation_knows_no_unit_no_order_and_no_names(factor):
    values, clusters = rows(np.random.default_rng(3))
    once = icc(values, clusters)
    assert icc(factor * values, clusters) == pytest.approx(once)
    assert icc(values + 5, clusters) == pytest.approx(once)
    order = np.random.default_rng(4).permutation(values.size)
    numbers = {name: 1000 - i for i, name in enumerate(dict.fromkeys(clusters))}
    assert icc(values[order], [numbers[clusters[i]] for i in order]) == pytest.approx(once)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([1.0, 2.0], ["a", "b"], "one of two rows.*2 rows in 2 clusters"),
        ([1.0, 2.0], ["a", "a"], "needs two clusters"),
        ([0.3, 0.1 + 0.2, 0.3], ["a", "a", "b"], "equal values is not defined.*3 times 0.3"),
        ([1, 1, 1], ["a", "a", "b"], "equal values"),
        ([0, 0, 0], ["a", "a", "b"], "equal values"),
        ([1.0, math.nan, 2.0], ["a", "a", "b"], "nan in row 1"),
        ([1.0, 2.0, 2.0], ["a", "a"], "differ in length"),
        ([1.0, 2.0, 2.0], ["a", "a", 1], "unusable kind"),
    ],
)
def test_an_undefined_correlation_is_refused(values, clusters, message):
    with pytest.raises(InputError, match=message):
        icc(values, clusters)


def test_effective_rows_run_from_clusters_to_rows():
    assert n_effective(120, 1.0, 4) == 30
    assert n_effective(120, 0.0, 4) == n_effective(120, -0.2, 4) == n_effective(120, 0.7, 1) == 120
    assert n_effective(120, 0.5, 4) == pytest.approx(48)
    found = [n_effective(120, r, 4) for r in np.linspace(0, 1, 11)]
    assert found == sorted(found, reverse=True)


def test_effective_rows_give_the_variance_of_a_mean_over_unequal_clusters():
    generator, sizes, correlation = np.random.default_rng(5), np.array([1] * 10 + [3] * 10 + [12] * 5), 0.3
    n = int(sizes.sum())
    shared = np.repeat(generator.normal(0, math.sqrt(correlation), (20_000, 25)), sizes, axis=1)
    means = (shared + generator.normal(0, math.sqrt(1 - correlation), shared.shape)).mean(axis=1)
    assert 1 / n_effective(n, correlation, (sizes**2).sum() / n) == pytest.approx(means.var(), rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.5, 1), "n is not usable"),
        ((10, 1.1, 2), "icc is not usable"),
        ((10, math.nan, 2), "icc is not usable"),
        ((10, 0.5, 0.5), "cluster_size is not usable"),
        ((10, 0.5, 11), "cluster_size is not usable"),
        ((math.inf, 0.5, 2), "n is not usable"),
    ],
)
def test_unusable_numbers_of_rows_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        n_effective(*arguments)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (20, 20), (3, 40), (1, 1)])
def test_one_row_a_cluster_is_the_exact_share(hits, n):
    found = clustered_share([True] * hits + [False] * (n - hits), list(range(n)))
    plain = exact_share(hits, n)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((plain.value, plain.low, plain.high, n))
    assert found.method == f"Clopper-Pearson on n_eff {n}.0"


@pytest.mark.parametrize("copies", [2, 5])
def test_copies_of_every_row_change_nothing(copies):
    hits, clusters = [1] * 7 + [0] * 33, list(range(40))
    once, copied = clustered_share(hits, clusters), clustered_share(hits * copies, clusters * copies)
    assert (copied.low, copied.high, copied.n) == pytest.approx((once.low, once.high, once.n))


def test_the_interval_is_the_binomial_tail_at_whole_effective_rows():
    # 12 rows in 6 clusters of 2, known correlation .5: 8 effective rows, of which a quarter, 2, are hits.
    hits, clusters = [1, 1, 1] + [0] * 9, [i // 2 for i in range(12)]
    found = clustered_share(hits, clusters, correlation=0.5, level=0.9)
    assert scipy.stats.binom.sf(1, 8, found.low) == pytest.approx(0.05)
    assert scipy.stats.binom.cdf(2, 8, found.high) == pytest.approx(0.05)
    assert (found.value, found.level, found.n, found.method) == (0.25, 0.9, 6, "Clopper-Pearson on n_eff 8.0")


def test_fractional_effective_rows_lie_between_the_whole_ones():
    hits, clusters = np.array([1] * 30 + [0] * 90), np.arange(120) // 4

    def width(correlation):
        found = clustered_share(hits, clusters, correlation=correlation)
        return found.high - found.low

    widths = [width(r) for r in np.linspace(0, 1, 21)]
    assert widths == sorted(widths)
    assert widths[0] < 0.8 * widths[-1]
    assert width(-0.1) == widths[0]


def test_the_correlation_is_estimated_where_none_is_given():
    hits, clusters = draw_hits(np.random.default_rng(6), 40, 3, 0.3, 0.4)
    assert clustered_share(hits, clusters) == clustered_share(hits, clusters, correlation=icc(hits, clusters))


@pytest.mark.parametrize("value", [0, 1])
def test_rows_that_are_all_alike_count_by_cluster(value):
    found = clustered_share([value] * 60, [i // 3 for i in range(60)])
    plain = exact_share(20 * value, 20)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((value, plain.low, plain.high, 20))


def test_a_single_cluster_is_worth_one_row():
    found = clustered_share([1, 0, 1, 0], ["a"] * 4)
    assert (found.value, found.n, found.method) == (0.5, 1, "Clopper-Pearson on n_eff 1.0")
    assert found.high - found.low > 0.9


@pytest.mark.parametrize(
    ("facts", "size", "share", "correlation"), [(40, 4, 0.3, 0.3), (60, 5, 0.1, 0.4), (100, 2, 0.02, 0.5)]
)
def test_coverage_is_nominal_or_above_where_counting_rows_falls_short(facts, size, share, correlation):
    generator, runs, covered, by_rows = np.random.default_rng(7), 500, 0, 0
    for _ in range(runs):
        hits, clusters = draw_hits(generator, facts, size, share, correlation)
        found, plain = clustered_share(hits, clusters), exact_share(int(hits.sum()), hits.size)
        covered += found.low <= share <= found.high
        by_rows += plain.low <= share <= plain.high
    assert covered / runs > 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs)
    if size > 2:
        assert by_rows / runs < 0.9


def test_the_order_of_the_rows_changes_nothing():
    hits, clusters = draw_hits(np.random.default_rng(8), 30, 3, 0.2, 0.3)
    order = np.random.default_rng(9).permutation(90)
    once, mixed = clustered_share(hits, clusters), clustered_share(hits[order], clusters[order])
    assert (mixed.value, mixed.low, mixed.high) == pytest.approx((once.value, once.low, once.high))


@pytest.mark.parametrize(
    ("hits", "clusters", "options", "message"),
    [
        ([], [], {}, "too short"),
        ([0, 2], ["a", "b"], {}, "True or False.*2.0"),
        ([0.5, 1], ["a", "b"], {}, "True or False.*0.5"),
        ([0, math.nan], ["a", "b"], {}, "nan in row 1"),
        ([0, 1], ["a"], {}, "differ in length"),
        ([0, 1], ["a", "b"], {"level": 0.4}, "0.5 to 0.999"),
        ([0, 1], ["a", "b"], {"correlation": 2.0}, "icc is not usable"),
    ],
)
def test_unusable_hits_are_refused(hits, clusters, options, message):
    with pytest.raises(InputError, match=message):
        clustered_share(hits, clusters, **options)
