"""Laws of directions: slow versions agree, what is planted is found, and null p-values are uniform."""

import numpy as np
import pytest
from scipy.stats import kstest

from mechgate.errors import InputError
from mechgate.stats.directions import (
    against_null,
    cosine_interval,
    cosines,
    gaussian_weights,
    in_span,
    label_weights,
    null_cosines,
    share_along,
    split_half,
)


def slow_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))


def rows(n: int = 12, places: int = 3, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, places, d))


def test_cosines_are_the_obvious_ones_and_0_where_nothing_moved() -> None:
    a, b = rows(seed=1), rows(seed=2)
    expected = [[slow_cosine(a[i, k], b[i, k]) for k in range(3)] for i in range(12)]
    np.testing.assert_allclose(cosines(a, b), expected)
    assert cosines(np.zeros(8), b[0, 0]) == 0


def test_null_cosines_are_those_of_weighted_sums() -> None:
    x, moved = rows(), rows(1, seed=3)[0]
    weights = gaussian_weights(12, 5, seed=0)
    found = null_cosines(moved, x, weights)
    for draw in range(5):
        for place in range(3):
            summed = sum(w * row for w, row in zip(weights[draw], x[:, place], strict=True))
            assert found[draw, place] == pytest.approx(slow_cosine(np.asarray(summed), moved[place]))
    basis = [np.linalg.qr(rows(1, 8, 8, seed=k)[0])[0][:k] for k in (1, 2, 0)]
    inside = null_cosines(basis, x, weights, spans=True)
    summed = weights @ x[:, 1]
    assert inside[0, 1] == pytest.approx(np.linalg.norm([slow_cosine(summed[0], b) for b in basis[1]]))
    assert (inside[:, 2] == 0).all()
    with pytest.raises(InputError, match="one size"):
        null_cosines(moved[:2], x, weights)


def test_a_gaussian_null_has_the_rows_covariance() -> None:
    x = rows(40, 1, 4) * np.array([1.0, 2.0, 3.0, 4.0])
    drawn = gaussian_weights(40, 20_000, seed=0) @ x[:, 0]
    np.testing.assert_allclose(np.cov(drawn.T) / 39, np.cov(x[:, 0].T), rtol=0.1, atol=0.25)
    np.testing.assert_allclose(gaussian_weights(40, 7, seed=1).sum(axis=1), 0, atol=1e-9)


def test_one_row_of_a_span_is_the_size_of_the_cosine() -> None:
    a, b = rows(1, 1, seed=4)[0, 0], rows(1, 1, seed=5)[0, 0]
    assert in_span(a[None] / np.linalg.norm(a), b) == pytest.approx(abs(slow_cosine(a, b)))
    assert in_span(np.eye(8), b) == pytest.approx(1)
    assert in_span(np.zeros((0, 8)), b) == 0
    assert in_span(np.eye(8)[:2], np.zeros(8)) == 0


def test_shares_are_those_of_squared_lengths() -> None:
    x, direction = rows(), rows(1, seed=6)[0]
    for place in range(3):
        unit = direction[place] / np.linalg.norm(direction[place])
        slow = sum((row @ unit) ** 2 for row in x[:, place]) / sum(row @ row for row in x[:, place])
        assert share_along(x, direction)[place] == pytest.approx(slow)
    assert share_along(np.outer(np.arange(1, 4), direction.ravel()).reshape(3, 3, 8), direction) == pytest.approx(1)
    assert (share_along(np.zeros((3, 3, 8)), direction) == 0).all()


def test_the_interval_is_that_of_resampled_means_and_holds_the_value() -> None:
    x, direction = rows(30) + 0.5, rows(1, seed=7)[0]
    found = cosine_interval(x, direction, seed=0, draws=4000)
    generator = np.random.default_rng(1)
    slow = [slow_cosine(x[generator.integers(0, 30, 30), 1].mean(axis=0), direction[1]) for _ in range(4000)]
    np.testing.assert_allclose([found["low"][1], found["high"][1]], np.quantile(slow, [0.025, 0.975]), atol=0.03)
    assert all(lo <= v <= hi for lo, v, hi in zip(found["low"], found["value"], found["high"], strict=True))


def test_halves_of_a_strong_vector_agree_and_those_of_noise_do_not() -> None:
    noise, groups = rows(60, 1, 20), np.repeat(np.arange(12), 5)
    strong = noise + 5 * np.ones(20)
    assert np.median(split_half(strong, groups, seed=0)) > 0.9
    assert abs(np.median(split_half(noise, groups, seed=0))) < 0.3
    with pytest.raises(InputError, match="two groups"):
        split_half(noise, np.zeros(60), seed=0)


def test_the_largest_place_is_compared_with_the_largest_place() -> None:
    generator = np.random.default_rng(0)
    observed, null = generator.standard_normal(4), generator.standard_normal((99, 4)) * [1, 2, 3, 4]
    found = against_null(observed, null)
    both = np.vstack([observed, null])
    scaled = np.abs(both) / np.sqrt((both**2).mean(axis=0))
    slow = [(1 + sum(scaled[k].max() >= scaled[0, j] for k in range(1, 100))) / 100 for j in range(4)]
    assert found.p == pytest.approx(slow)
    assert found.p_any == min(slow)
    assert against_null(np.zeros(4), np.zeros((19, 4))).p == (1.0,) * 4
    with pytest.raises(InputError, match="19"):
        against_null(observed, null[:18])


@pytest.mark.parametrize("kind", ["gaussian", "labels"])
def test_null_p_values_are_uniform(kind: str) -> None:
    generator, found = np.random.default_rng(0), []
    spread = np.linspace(0.2, 3, 6)
    for run in range(300):
        moved = generator.standard_normal((2, 6)) * spread
        if kind == "gaussian":
            pool = generator.standard_normal((400, 2, 6)) * spread  # so many that their covariance is the true one
            vector, weights = generator.standard_normal((2, 6)) * spread, gaussian_weights(400, 99, seed=run)
        else:
            pool = generator.standard_normal((15, 2, 6)) * spread
            vector, weights = pool.mean(axis=0), label_weights(15, 99, seed=run)
        found.append(against_null(cosines(vector, moved), null_cosines(moved, pool, weights)).p_any)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert kstest(np.array(found) - generator.uniform(0, 0.01, 300), "uniform").pvalue > 0.01
