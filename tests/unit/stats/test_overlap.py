"""Laws of overlap: slow counts agree, permutation keeps strata, p-values are fair where nothing is shared but the rates."""

from itertools import product

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.overlap import (
    alike,
    by_cluster,
    jaccard,
    overlap_test,
    rank_biased_overlap,
    span_overlap,
    strata,
)


def test_jaccard_is_what_sets_give() -> None:
    stream = rng(0, "jaccard")
    for _ in range(50):
        a, b = stream.random((2, 12)) < stream.random()
        first, second = ({i for i in range(12) if v[i]} for v in (a, b))
        assert jaccard(a, b) == (len(first & second) / len(first | second) if first | second else 0.0)


def slow_rbo(a: np.ndarray, b: np.ndarray, p: float) -> float:
    one, two = (list(np.argsort(-v, kind="stable")) for v in (a, b))
    shares = [len(set(one[:d]) & set(two[:d])) / d for d in range(1, len(a) + 1)]
    return sum((1 - p) * p ** (d - 1) * x for d, x in enumerate(shares, 1)) + p ** len(a) * shares[-1]


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_rank_biased_overlap_is_the_weighted_mean_of_agreements(p: float) -> None:
    stream = rng(0, "rbo")
    for _ in range(20):
        a, b = stream.random((2, 15)).round(1)  # with ties
        assert rank_biased_overlap(a, b, persistence=p) == pytest.approx(slow_rbo(a, b, p))
    a = stream.random(15)
    assert rank_biased_overlap(a, a, persistence=p) == pytest.approx(1.0)
    assert rank_biased_overlap(a, -a, persistence=p) < rank_biased_overlap(a, a + stream.random(15) / 9, persistence=p)


def test_spans_overlap_by_their_principal_angles() -> None:
    stream = rng(0, "span")
    basis = np.linalg.qr(stream.standard_normal((8, 8)))[0]
    mix = stream.standard_normal((5, 2))
    assert span_overlap(mix @ basis[:2], basis[:4]) == pytest.approx(1.0)
    assert span_overlap(basis[:3], basis[3:]) == pytest.approx(0.0, abs=1e-12)
    angle = 0.7
    turned = np.cos(angle) * basis[0] + np.sin(angle) * basis[1]
    assert span_overlap(basis[:1], turned[None]) == pytest.approx(np.cos(angle) ** 2)
    assert span_overlap(basis[:0], basis) == 0.0


def test_strata_hold_equally_many_features_alike_in_rate_and_then_norm() -> None:
    stream = rng(0, "strata")
    rate, norm = stream.random((2, 400))
    found = strata(rate, norm, parts=4)
    assert set(np.bincount(found)) == {25}
    for k, j in product(range(16), repeat=2):
        if k // 4 < j // 4:
            assert rate[found == k].max() <= rate[found == j].min()
        elif k // 4 == j // 4 and k < j:
            assert norm[found == k].max() <= norm[found == j].min()


def test_directions_that_are_alike_are_one_cluster_also_by_way_of_others() -> None:
    angles = np.array([0.0, 0.6, 1.2, 2.5, 0.0])  # cos .6 = .83, cos 1.2 = .36
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [2], [3], [4], [5]])
    found = alike(directions)
    assert len({found[0], found[1], found[2], found[4]}) == 1
    assert found[3] != found[0]
    assert by_cluster([False, False, True, False, False], found).tolist() == [True, False]
    assert by_cluster([1.0, -9.0, 2.0, 4.0, 3.0], found, how="largest").tolist() == [-9.0, 4.0]
    assert by_cluster([1.0, -9.0, 2.0, 4.0, 2.0], found, how="mean").tolist() == [-1.0, 4.0]


def test_permutation_keeps_what_is_in_each_stratum() -> None:
    stream = rng(0, "keep")
    groups, second = stream.integers(0, 5, 60), stream.random(60) < 0.3
    seen: list[np.ndarray] = []
    overlap_test(lambda a, b: float(seen.append(b.copy()) or 0.0), second, second, groups, seed=0, draws=50)
    counts = {tuple(np.bincount(groups, weights=b.astype(float)).tolist()) for b in seen}
    assert len(counts) == 1
    assert len({b.tobytes() for b in seen}) > 40


def sets_by_rate(stream: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sets that share nothing but that features of a high rate are in either more often."""
    rate = stream.random(300)
    return (*(stream.random((2, 300)) < 0.5 * rate), rate)


def test_p_is_fair_within_strata_and_not_without() -> None:
    p, naive = [], []
    for k in range(120):
        a, b, rate = sets_by_rate(rng(k, "fair"))
        for found, groups in ((p, strata(rate, np.ones(300))), (naive, np.zeros(300))):
            found.append(overlap_test(jaccard, a, b, groups, seed=k, draws=199).p)
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / 120)
    assert np.mean(np.array(p) <= 0.05) <= limit
    assert np.mean(np.array(naive) <= 0.05) > 2 * limit


def test_a_planted_overlap_is_found_and_the_numbers_are_the_nulls() -> None:
    stream = rng(0, "planted")
    a = stream.random(300) < 0.1
    b = a & (stream.random(300) < 0.7)
    found = overlap_test(jaccard, a, b, strata(stream.random(300), stream.random(300), parts=3), seed=0, draws=999)
    assert (found.p, found.value) == (1 / 1000, jaccard(a, b))
    assert found.expected < found.high < found.value


def test_what_cannot_be_compared_is_an_error() -> None:
    yes = np.ones(4, dtype=bool)
    for wrong in (
        lambda: jaccard([1, 0], [0, 1]),
        lambda: jaccard(yes, yes[:2]),
        lambda: rank_biased_overlap([1.0], [1.0, 2.0]),
        lambda: rank_biased_overlap([1.0], [1.0], persistence=1.0),
        lambda: alike(np.zeros((2, 3))),
        lambda: strata([1.0, 2.0], [1.0]),
        lambda: overlap_test(jaccard, yes, yes, np.zeros(4), seed=0),
        lambda: overlap_test(jaccard, yes, ~yes[:2], np.zeros(4), seed=0),
        lambda: by_cluster([1], [1], how="sum"),
    ):
        with pytest.raises(InputError):
            wrong()
