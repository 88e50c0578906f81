"""Laws of CKA: what it cannot see, what it must see, and no bias where there are more dimensions than prompts."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.stats.cka import debiased_cka, unbiased_hsic


def slow_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """The definition: averages over all ordered pairs, triples and quadruples of different samples."""
    n = range(len(k))
    pairs = np.mean([k[i, j] * m[i, j] for i, j in permutations(n, 2)])
    triples = np.mean([k[i, j] * m[i, q] for i, j, q in permutations(n, 3)])
    quadruples = np.mean([k[i, j] * m[q, r] for i, j, q, r in permutations(n, 4)])
    return float(pairs + quadruples - 2 * triples)


def draws(seed: int, n: int = 40, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    return r.normal(size=(n, d)) + 3, r.normal(size=(n, d)) - 2


@pytest.mark.parametrize("n", [4, 5, 8])
def test_hsic_is_the_average_over_all_pairs_triples_and_quadruples(n: int) -> None:
    x, y = draws(n, n)
    k, m = x @ x.T, y @ y.T
    assert unbiased_hsic(k, m) == pytest.approx(slow_hsic(k, m), rel=1e-9)


def test_cka_is_the_ratio_of_slow_hsics() -> None:
    x, y = draws(1, 7)
    y = x[:, :4] @ np.ones((4, 5)) + 0.3 * y[:, :5]
    kernels = [(one - one.mean(axis=0)) @ (one - one.mean(axis=0)).T for one in (x, y)]
    xy, xx, yy = (slow_hsic(kernels[i], kernels[j]) for i, j in ((0, 1), (0, 0), (1, 1)))
    assert debiased_cka(x, y) == pytest.approx(xy / (xx * yy) ** 0.5)


@pytest.mark.parametrize("factor", [0.1, 0.9, 30.0, -1.0])
def test_a_pure_dampener_cannot_be_seen(factor: float) -> None:
    x, _ = draws(0)
    assert debiased_cka(x, factor * x) == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(factor * x - x, axis=1).min() > 0  # while every prompt moves


def test_rotation_shift_and_order_of_arguments_change_nothing() -> None:
    x, y = draws(2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]
    assert debiased_cka(x, x @ turn + 5) == pytest.approx(1, abs=1e-12)
    assert debiased_cka(x, y) == pytest.approx(debiased_cka(y, x), abs=1e-12)


def test_unrelated_representations_average_0_also_with_more_dimensions_than_prompts() -> None:
    found = [debiased_cka(*draws(seed, 20, 100)) for seed in range(60)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 60**0.5
    assert np.mean(found) < 0.05


def test_one_loud_dimension_hides_a_change_until_it_is_dropped_or_scaled() -> None:
    x, y = draws(4, 60)
    loud = 100 * np.random.default_rng(5).normal(size=(60, 1))
    before, after = np.hstack([loud, x]), np.hstack([loud, y])
    assert debiased_cka(before, after) > 0.99
    assert debiased_cka(before, after, drop=1) == pytest.approx(debiased_cka(x, y))
    assert debiased_cka(before, after, z_score=True) < 0.5


def test_the_same_neurons_are_dropped_before_and_after() -> None:
    x, _ = draws(6)
    x[:, 2] *= 50
    after = x.copy()
    after[:, 4] *= 1000
    kept = [0, 1, 3, 4, 5]
    assert debiased_cka(x, after, drop=1) == pytest.approx(debiased_cka(x[:, kept], after[:, kept]))


def test_dimensions_that_do_not_vary_are_no_trouble() -> None:
    x, y = draws(7)
    flat = np.hstack([x, np.full((len(x), 1), 0.1)])
    assert debiased_cka(flat, y, z_score=True) == pytest.approx(debiased_cka(x, y, z_score=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(first=np.ones((3, 2)), second=np.ones((3, 2))), "at least 4 prompts"),
        (dict(second=np.zeros((39, 6))), "same prompts"),
        (dict(second=np.zeros((40, 6))), "does not tell the prompts apart"),
        (dict(first=np.full((40, 6), np.nan)), "not finite"),
        (dict(first=np.zeros(40)), "prompts, dimensions"),
        (dict(drop=6), "no dimension is left"),
        (dict(drop=-1), "drop is not usable"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    x, y = draws(0)
    with pytest.raises(InputError, match=message):
        debiased_cka(**(dict(first=x, second=y) | change))
