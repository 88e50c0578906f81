"""Laws of RDMs and their comparison, each beside a slow and obvious version."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import scipy.stats

from mechgate.errors import InputError
from mechgate.stats.permutation import p_from_null
from mechgate.stats.rsa import (
    compare_rdms,
    model_rdm,
    noise_ceiling,
    partial_rho,
    rdm,
    row_change,
    side_swaps,
)

DOMAINS = ("a", "a", "a", "b", "b", "b")


def patterns(seed: int, n: int = 24, d: int = 5) -> tuple[np.ndarray, list[int], list[int]]:
    """Rows in a mixed order with 4 conditions and 3 folds, each pair of them twice."""
    r = np.random.default_rng(seed)
    cells = [(c, f) for c in range(4) for f in range(3)] * 2
    cells = [cells[i] for i in r.permutation(n)]
    return r.normal(size=(n, d)), [c for c, _ in cells], [f for _, f in cells]


def test_distances_are_those_of_mean_patterns_a_dimension_in_sorted_order() -> None:
    x, conditions, _ = patterns(0)
    means = [x[[i for i, c in enumerate(conditions) if c == k]].mean(axis=0) for k in range(4)]
    slow = [((means[i] - means[j]) ** 2).mean() for i, j in combinations(range(4), 2)]
    np.testing.assert_allclose(rdm(x, conditions), slow)


def test_crossnobis_is_the_mean_product_of_differences_in_one_fold_and_in_the_others() -> None:
    x, conditions, folds = patterns(1)

    def mean(condition: int, which: set[int]) -> Any:
        return x[[i for i in range(len(x)) if conditions[i] == condition and folds[i] in which]].mean(axis=0)

    slow = []
    for i, j in combinations(range(4), 2):
        parts = []
        for fold in range(3):
            rest = {0, 1, 2} - {fold}
            parts.append(((mean(i, {fold}) - mean(j, {fold})) * (mean(i, rest) - mean(j, rest))).mean())
        slow.append(np.mean(parts))
    np.testing.assert_allclose(rdm(x, conditions, folds=folds), slow)


def test_crossnobis_of_noise_averages_0_and_squared_distances_do_not() -> None:
    found = np.array([[rdm(x, c, folds=f).mean(), rdm(x, c).mean()] for x, c, f in map(patterns, range(80))])
    assert abs(found[:, 0].mean()) < 4 * found[:, 0].std() / 80**0.5
    assert found[:, 1].mean() > 0.2


def test_models_are_differences_of_labels_and_numbers() -> None:
    assert model_rdm(["x", "y", "x"]).tolist() == [1, 0, 1]
    assert model_rdm([1.0, 4.0, 2.0]).tolist() == [3, 1, 2]


def test_rho_a_averages_spearman_over_random_orders_of_ties_and_is_spearman_without_ties() -> None:
    r = np.random.default_rng(0)
    data, model = r.normal(size=15), np.repeat([0.0, 1.0, 1.0], 5)
    orders = [scipy.stats.spearmanr(data, model + 1e-6 * r.normal(size=15))[0] for _ in range(4000)]
    assert compare_rdms(data, model)[0, 0] == pytest.approx(np.mean(orders), abs=0.01)
    assert compare_rdms(data, data**3)[0, 0] == pytest.approx(1)
    other = r.normal(size=15)
    for method in ("rho-a", "spearman"):
        assert compare_rdms(data, other, method=method)[0, 0] == pytest.approx(scipy.stats.spearmanr(data, other)[0])


def test_partial_rho_is_the_partial_correlation_of_ranks() -> None:
    r = np.random.default_rng(1)
    confound = r.normal(size=60)
    data, target = confound + 0.5 * r.normal(size=60), confound + 0.5 * r.normal(size=60)
    a, b, c = (scipy.stats.rankdata(v) for v in (data, target, confound))
    ab, ac, bc = (np.corrcoef(*both)[0, 1] for both in ((a, b), (a, c), (b, c)))
    expected = (ab - ac * bc) / ((1 - ac**2) * (1 - bc**2)) ** 0.5
    assert partial_rho(data, target, confound) == pytest.approx(expected)
    assert abs(expected) < ab
    assert partial_rho(data, confound**3, confound) == 0.0


def test_the_ceiling_encloses_what_the_true_rdm_reaches_and_is_1_without_noise() -> None:
    r = np.random.default_rng(2)
    truth = r.normal(size=40)
    noisy = truth + 0.7 * r.normal(size=(6, 40))
    low, high = noise_ceiling(noisy)
    assert low < compare_rdms(truth, noisy).mean() < high < 1
    assert noise_ceiling(np.stack([truth, truth])) == pytest.approx((1, 1))


def test_row_change_is_one_minus_spearman_of_each_items_distances() -> None:
    r = np.random.default_rng(3)
    x, y = r.normal(size=(9, 4)), r.normal(size=(9, 4))
    for i, found in enumerate(row_change(x, y)):
        others = [j for j in range(9) if j != i]
        before, after = ([np.sum((v[i] - v[j]) ** 2) for j in others] for v in (x, y))
        assert found == pytest.approx(1 - scipy.stats.spearmanr(before, after)[0])


def test_row_change_is_blind_to_scale_rotation_and_shift() -> None:
    x = np.random.default_rng(4).normal(size=(12, 5))
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(5, 5)))[0]
    np.testing.assert_allclose(row_change(x, 0.3 * x @ turn + 7), 0, atol=1e-12)


def slow_swap(x: np.ndarray, signs: np.ndarray) -> float:
    """Swap the sides of facts by hand, and compare the RDM of the mean patterns with the model."""
    swapped = x.copy()
    for fact, sign in enumerate(signs):
        if sign < 0:
            swapped[fact] = x[fact][:, ::-1]
    rows = [
        (DOMAINS.index(domain) * 100 + phrasing * 2 + side, swapped[fact, phrasing, side])
        for fact, domain in enumerate(DOMAINS)
        for phrasing in range(x.shape[1])
        for side in range(2)
    ]
    vector = rdm(np.array([v for _, v in rows]), [c for c, _ in rows])
    sides = [c % 2 for c in sorted({c for c, _ in rows})]
    return float(compare_rdms(vector, model_rdm([float(s) for s in sides]))[0, 0])


def test_swaps_are_what_swapping_by_hand_gives() -> None:
    x = np.random.default_rng(6).normal(size=(6, 2, 2, 9))
    observed, null = side_swaps(x, DOMAINS, seed=1, draws=700)
    assert observed == pytest.approx(slow_swap(x, np.ones(6)))
    every = {round(slow_swap(x, 1 - 2 * np.array(pattern)), 9) for pattern in np.ndindex(*[2] * 6)}
    assert {round(float(v), 9) for v in null} == every


def test_p_values_of_swaps_are_uniform_where_sides_differ_in_name_only_and_small_where_they_do_not() -> None:
    """Facts have strong patterns of their own and phrasings strong effects: neither is the sides' doing."""
    found, planted = [], []
    for seed in range(150):
        r = np.random.default_rng(seed)
        x = r.normal(size=(6, 2, 2, 8)) + 2 * r.normal(size=(6, 1, 1, 8)) + 2 * r.normal(size=(1, 2, 1, 8))
        x = x + 1.5 * r.normal(size=(6, 1, 2, 8))  # claims differ alike in both phrasings
        observed, null = side_swaps(x, DOMAINS, seed=seed, draws=199)
        found.append(p_from_null(observed, null, alternative="greater"))
        if seed < 20:
            x[:, :, 0] += 4
            observed, null = side_swaps(x, DOMAINS, seed=seed, draws=199)
            planted.append(p_from_null(observed, null, alternative="greater"))
    for alpha in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert np.mean(np.array(found) <= alpha) <= alpha + 2.5 * (alpha * (1 - alpha) / 150) ** 0.5
    assert np.mean(found) < 0.6  # super-uniform by ties only: swapping all facts changes nothing
    assert np.mean(planted) < 0.05  # 2 of 64 patterns give the observed value itself
    assert max(planted) <= 0.1


def test_numpys_global_generator_is_left_alone() -> None:
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    x, conditions, folds = patterns(0)
    noise_ceiling(np.stack([rdm(x, conditions), rdm(x, conditions, folds=folds)]))
    assert np.random.random() == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rdm(np.ones((3, 2)), [0, 1]), "one condition each"),
        (lambda: rdm(np.full((3, 2), np.inf), [0, 1, 2]), "finite"),
        (lambda: rdm(np.ones((4, 2)), [0, 1, 0, 1]), "three conditions"),
        (lambda: rdm(np.ones((4, 2)), [0, 1, 2, 0], folds=[0, 0, 0, 1]), "every condition in each"),
        (lambda: compare_rdms([1.0, 2, 3], [1.0, 2]), "cannot be compared"),
        (lambda: compare_rdms([1.0, 2, 3], [1.0, 2, 3], method="cosine"), "method"),
        (lambda: noise_ceiling([[1.0, 2, 3]]), "two RDMs"),
        (lambda: row_change(np.ones((5, 2)), np.eye(5)), "no distances"),
        (lambda: row_change(np.eye(3), np.eye(3)), "4 items"),
        (lambda: side_swaps(np.ones((6, 2, 3, 4)), DOMAINS, seed=0), "swaps need"),
    ],
)
def test_bad_input_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
