"""Laws of many tests at once: errors bounded over the family, exact where all patterns fit, never 0 and never NaN."""

import itertools
import json
import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from mechgate.errors import InputError
from mechgate.stats import multiplicity
from mechgate.stats.multiplicity import benjamini_hochberg, holm, max_t
from mechgate.stats.permutation import sign_flip_p


def slow_holm(p_values):
    """Steps down from the smallest p: each is multiplied by the number of claims still open, and none overtakes."""
    ordered, reached, found = sorted(p_values, key=lambda name: p_values[name]), 0.0, {}
    for step, name in enumerate(ordered):
        reached = max(reached, min(1.0, (len(ordered) - step) * p_values[name]))
        found[name] = reached
    return found


def slow_rejections(p_values, q):
    """Benjamini and Hochberg 1995: all p up to the largest k-th smallest that is at most k q / n."""
    n = len(p_values)
    limit = max((p for k, p in enumerate(sorted(p_values), 1) if p <= k * q / n), default=-1.0)
    return [p <= limit for p in p_values]


def slow_t(numbers):
    n, mean = len(numbers), math.fsum(numbers) / len(numbers)
    squares = math.fsum((x - mean) ** 2 for x in numbers)
    if squares <= 1e-20 * math.fsum(x * x for x in numbers):
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / math.sqrt(squares / (n - 1) / n)


def slow_max_t(values):
    """t, and p over all sign patterns, pattern by pattern and unit by unit."""
    n, units = values.shape
    observed = [slow_t(values[:, u].tolist()) for u in range(units)]
    extreme = [0] * units
    for signs in itertools.product([1, -1], repeat=n):
        most = max(abs(slow_t([s * float(x) for s, x in zip(signs, values[:, u], strict=True)])) for u in range(units))
        for u in range(units):
            extreme[u] += most >= abs(observed[u]) * (1 - 1e-9)
    return observed, [e / 2**n for e in extreme]


def test_holm_is_the_step_down_loop_whatever_the_order():
    generator = np.random.default_rng(0)
    for size in (1, 2, 5, 12):
        p_values = {f"claim {i}": float(p) for i, p in enumerate(generator.uniform(1e-4, 0.3, size).round(2) + 1e-3)}
        found = holm(p_values)
        assert found == pytest.approx(slow_holm(p_values))
        assert list(found) == list(p_values)
        theirs = multipletests(list(p_values.values()), method="holm")[1]
        assert list(found.values()) == pytest.approx(list(theirs))  # pyright: ignore[reportArgumentType]
        back = holm(dict(reversed(p_values.items())))
        assert back == pytest.approx(found)


def test_holm_keeps_the_chance_of_any_false_claim():
    generator, runs, wrong, found = np.random.default_rng(1), 1500, 0, 0
    for _ in range(runs):
        adjusted = holm({"a": generator.uniform(), "b": generator.uniform(), "c": generator.uniform(0, 1e-4)})
        wrong += min(adjusted["a"], adjusted["b"]) <= 0.05
        found += adjusted["c"] <= 0.05
    assert wrong / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    assert wrong / runs > 0.03
    assert found == runs


@pytest.mark.parametrize("q", [0.01, 0.05, 0.2])
def test_benjamini_hochberg_rejects_what_the_step_up_loop_does(q):
    generator, some = np.random.default_rng(2), 0
    for size in (1, 3, 20, 400):
        p_values = np.concatenate([generator.uniform(1e-6, 1, size), generator.uniform(1e-6, 0.02, size)])
        rejected, adjusted = benjamini_hochberg(p_values, q)
        assert rejected.tolist() == slow_rejections(p_values.tolist(), q)
        assert (rejected == (adjusted <= q)).all()
        assert ((p_values <= adjusted) & (adjusted <= 1)).all()
        some += rejected.sum()
        order = generator.permutation(2 * size)
        assert benjamini_hochberg(p_values[order], q)[1].tolist() == adjusted[order].tolist()
    assert some


def test_the_false_discovery_rate_is_kept():
    generator, shares = np.random.default_rng(3), []
    for _ in range(400):
        p_values = np.concatenate([generator.uniform(1e-9, 1, 80), generator.uniform(1e-9, 1e-3, 20)])
        rejected, _ = benjamini_hochberg(p_values, 0.1)
        shares.append(rejected[:80].sum() / max(1, rejected.sum()))
    assert 0.06 < np.mean(shares) < 0.1  # the rate is q times the share of true nulls, .08


@pytest.mark.parametrize(
    ("p_values", "message"),
    [
        ([], "too short"),
        ([0.5, 0.0], "0.0 (at position 1|for 'claim 1')"),
        ([1.1, 0.5], "1.1 (at position 0|for 'claim 0').*above 0, at most 1"),
        ([math.nan], "nan"),
        (["0.5"], "not a vector of numbers"),
    ],
)
def test_what_is_no_p_value_is_refused(p_values, message):
    with pytest.raises(InputError, match=message):
        holm({f"claim {i}": p for i, p in enumerate(p_values)})
    with pytest.raises(InputError, match=message):
        benjamini_hochberg(p_values)


@pytest.mark.parametrize("q", [0.0, 1.0, math.nan])
def test_an_unusable_rate_is_refused(q):
    with pytest.raises(InputError, match="q is not a false discovery rate"):
        benjamini_hochberg([0.5], q)


def samples(generator, n, units):
    shared = generator.normal(size=(n, 1))
    yield generator.normal(0.4, 1, (n, units)) + shared
    yield generator.integers(-2, 3, (n, units)) / 10 + np.eye(n, units)
    # Units whose size does not vary: under some sign patterns their t is infinite.
    yield np.concatenate([generator.choice([-0.1, 0.1], (n, units - 1)) * 3, generator.normal(0.5, 1, (n, 1))], axis=1)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_enumerated_maps_are_those_of_the_brute_force(n):
    compared = 0
    for values in samples(np.random.default_rng(n), n, 4):
        if (np.ptp(values, axis=0) == 0).any():
            continue
        t, p = slow_max_t(values)
        found = max_t(values.reshape(n, 2, 2), seed=0)
        assert found.t.ravel().tolist() == pytest.approx(t)
        assert found.p.ravel().tolist() == p
        assert (found.n, found.draws, found.exact, found.p.shape) == (n, 2**n, True, (2, 2))
        compared += 1
    assert compared >= 2


def test_a_map_of_one_unit_is_a_sign_flip_test():
    for n in (6, 10):
        values = np.random.default_rng(n).normal(0.5, 1, n)
        assert float(max_t(values, seed=0).p) == sign_flip_p(values, seed=0)
        assert max_t(values[:, None], seed=0).p.tolist() == [sign_flip_p(values, seed=0)]


def test_enumeration_ends_where_the_patterns_outnumber_the_draws():
    values = np.random.default_rng(0).normal(0.4, 1, (12, 6))
    exact = max_t(values, seed=0, draws=2**12)
    sampled = max_t(values, seed=0, draws=2**12 - 1)
    assert (exact.exact, sampled.exact, sampled.draws) == (True, False, 2**12 - 1)
    assert (sampled.p != exact.p).any()
    assert np.abs(sampled.p - exact.p).max() < 4 * math.sqrt(0.25 / 2**12)
    assert np.allclose(sampled.p * 2**12, np.round(sampled.p * 2**12), rtol=0, atol=1e-9)
    assert (max_t(values, seed=1, draws=2**12).p == exact.p).all()
    assert (max_t(values, seed=1, draws=2**12 - 1).p != sampled.p).any()


@pytest.mark.parametrize("draws", [2**6, 500])
def test_batches_change_nothing(monkeypatch, draws):
    values = np.random.default_rng(0).normal(0.4, 1, (6 if draws == 64 else 20, 8))
    whole = max_t(values, seed=0, draws=draws)
    monkeypatch.setattr(multiplicity, "_BATCH", 7 * 20)
    assert (max_t(values, seed=0, draws=draws).p == whole.p).all()


def test_no_p_value_falls_below_one_over_all_draws_and_one():
    values = np.random.default_rng(0).normal(50, 1, (40, 3))
    assert max_t(values, seed=0, draws=999).p.tolist() == [0.001] * 3
    assert max_t(values[:5], seed=0).p.tolist() == [2**-4] * 3


@pytest.mark.parametrize(("n", "draws"), [(9, 512), (25, 199)], ids=["enumerated", "sampled"])
def test_the_chance_of_any_false_unit_is_kept(n, draws):
    generator, runs = np.random.default_rng(4), 600
    smallest = []
    for i in range(runs):
        # Heavy tails, unlike scales, and units that go together: the test may need symmetry only.
        values = (generator.standard_t(3, (n, 10)) + generator.normal(size=(n, 1))) * np.linspace(0.1, 5, 10)
        smallest.append(max_t(values, seed=i, draws=draws).p.min())
    for alpha in (0.05, 0.2, 0.5):
        assert abs(np.mean(np.array(smallest) <= alpha) - alpha) < 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_real_units_are_found_and_adjusted_p_values_are_no_smaller_than_single_ones():
    values = np.random.default_rng(5).normal(0, 1, (12, 30))
    values[:, 7] += 3
    found = max_t(values, seed=0)
    assert found.p[7] < 0.01
    assert (np.delete(found.p, 7) > 0.05).all()
    assert all(found.p[u] >= sign_flip_p(values[:, u], seed=0) for u in range(30))


@pytest.mark.parametrize("factor", [1e-200, 1e-3, 1e100])
def test_the_unit_of_measure_and_the_sign_change_nothing(factor):
    values = np.random.default_rng(6).normal(0.4, 1, (10, 5))
    unit = max_t(values, seed=0)
    scaled = max_t(-factor * values * np.array([1, 2, 3, 4, 0.5]), seed=0)
    assert scaled.t == pytest.approx(-unit.t)
    assert (scaled.p == unit.p).all()


def test_the_order_of_clusters_and_units_changes_nothing_and_repeated_units_cost_nothing():
    values = np.random.default_rng(7).normal(0.4, 1, (10, 5))
    unit = max_t(values, seed=0)
    mixed = max_t(values[::-1, [3, 1, 0, 4, 2]], seed=0)
    assert mixed.t == pytest.approx(unit.t[[3, 1, 0, 4, 2]])
    assert (mixed.p == unit.p[[3, 1, 0, 4, 2]]).all()
    repeated = max_t(np.tile(values, 3), seed=0)
    assert (repeated.p == np.tile(unit.p, 3)).all()


@pytest.mark.parametrize("n", [5, 40], ids=["enumerated", "sampled"])
def test_units_that_never_differ_have_t_zero_and_p_one(recwarn, n):
    values = np.random.default_rng(8).normal(3, 1, (n, 4))
    values[:, 2] = 0
    found = max_t(values, seed=0, draws=200)
    assert (found.t[2], found.p[2]) == (0.0, 1.0)
    assert (found.p[[0, 1, 3]] < 0.1).all()
    nothing = max_t(np.zeros((n, 2, 3)), seed=0, draws=200)
    assert (nothing.t == 0).all()
    assert (nothing.p == 1).all()
    assert not recwarn


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.tile([[[0.0, 0.1], [0.2, 1.0]]], (5, 1, 1)), {}, r"infinite.*3 units, the first at \(0, 1\) with 0.1"),
        (np.full(5, 0.1), {}, "same difference in every cluster"),
        ([[0.1 + 0.2], [0.3]], {}, "same difference in every cluster"),
        ([[1.0, 2.0]], {}, r"at least two clusters.*shape \(1, 2\)"),
        (3.0, {}, "at least two clusters"),
        (np.zeros((4, 0)), {}, "no units"),
        ([[1.0, math.nan], [1.0, 2.0]], {}, "nan in row 1"),
        ([["a"], ["b"]], {}, "not a vector of numbers"),
        ([[1.0], [2.0]], {"draws": 18}, "at least 19"),
        ([[1.0], [2.0]], {"draws": 1e3}, "whole number"),
    ],
)
def test_unusable_maps_are_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        max_t(values, seed=0, **options)


def test_a_map_is_plain_json():
    found = max_t(np.random.default_rng(9).normal(size=(6, 2, 3)), seed=0)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["p"] == found.p.tolist()
    assert (np.shape(plain["t"]), plain["n"], plain["draws"], plain["exact"]) == ((2, 3), 6, 64, True)
