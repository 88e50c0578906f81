"""Laws of recovery: against slow versions, under transformations, and under the null."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mechgate.errors import InputError
from mechgate.stats.recovery import GRID, auroc, precision_at, recovery_p, roc


def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores with and without ties, and truths of one unit to all but one."""
    draw = np.random.default_rng(0)
    found = []
    for k, levels in itertools.product((1, 3, 9), (3, 1000)):
        truth = np.zeros(10, dtype=bool)
        truth[draw.permutation(10)[:k]] = True
        found.append((draw.integers(levels, size=10).astype(float), truth))
    return found


@pytest.mark.parametrize(("scores", "truth"), cases())
def test_auroc_is_the_share_of_pairs_in_the_right_order(scores: np.ndarray, truth: np.ndarray) -> None:
    slow = np.mean([(a > b) + (a == b) / 2 for a in scores[truth] for b in scores[~truth]])
    assert auroc(scores, truth) == pytest.approx(slow)
    assert auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    assert auroc(-scores, truth) == pytest.approx(1 - slow)
    assert auroc(np.exp(scores / 1000), truth) == pytest.approx(slow)


@pytest.mark.parametrize(("scores", "truth"), cases())
def test_precision_is_the_mean_over_all_ways_to_break_ties(scores: np.ndarray, truth: np.ndarray) -> None:
    k, draw = int(truth.sum()), np.random.default_rng(1)
    tries = [truth[np.lexsort((draw.random(10), -scores))[:k]].mean() for _ in range(4000)]
    assert precision_at(scores, truth) == pytest.approx(np.mean(tries), abs=0.02)


@pytest.mark.parametrize(("scores", "truth"), cases())
def test_the_curve_rises_from_corner_to_corner_and_holds_the_auroc_below_it(
    scores: np.ndarray, truth: np.ndarray
) -> None:
    curve = roc(scores, truth)
    assert curve.shape == GRID.shape
    assert (np.diff(curve) >= -1e-12).all()
    assert curve[-1] == 1
    assert np.trapezoid(curve, GRID) == pytest.approx(auroc(scores, truth), abs=0.06)  # steps between grid points


def test_a_planted_score_is_found_and_one_that_only_knows_layers_is_not_within_them() -> None:
    truths = [np.zeros((4, 6), dtype=bool) for _ in range(3)]
    for i, truth in enumerate(truths):
        truth[3, i], truth[2, i + 1] = True, True
    layers = np.repeat(np.arange(4.0)[:, None], 6, axis=1)
    maps = [truth[None] + 0.01 * layers for truth in truths]
    assert recovery_p(maps, truths, seed=0) < 0.01
    assert recovery_p(maps, truths, seed=0, within_layers=True) < 0.01
    known = [layers[None]] * 3
    assert recovery_p(known, truths, seed=0) < 0.05
    assert recovery_p(known, truths, seed=0, within_layers=True) == 1


@pytest.mark.parametrize("within", [False, True])
def test_of_random_scores_no_more_are_significant_than_asked_for(within: bool) -> None:
    draw, p = np.random.default_rng(2), []
    truth = np.zeros((3, 4), dtype=bool)
    truth[0, 1] = truth[2, 3] = truth[2, 0] = True
    for i in range(200):
        maps = [draw.random((2, 3, 4)) for _ in range(2)]
        p.append(recovery_p(maps, [truth, ~truth], seed=i, within_layers=within, draws=199))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) <= level + 2 * (level * (1 - level) / 200) ** 0.5


def test_the_null_draws_random_heads_in_place_of_the_true_ones() -> None:
    """A slow version: the p of the observed AUROC among those of all truths of that size."""
    scores, truth = np.random.default_rng(3).random((1, 2, 4)), np.zeros((2, 4), dtype=bool)
    truth[0, 1] = truth[1, 2] = True
    every = []
    for both in itertools.combinations(range(8), 2):
        other = np.zeros(8, dtype=bool)
        other[list(both)] = True
        every.append(auroc(scores, other))
    slow = np.mean(np.array(every) >= auroc(scores[0], truth) - 1e-12)
    assert recovery_p([scores], [truth], seed=0, draws=20_000) == pytest.approx(slow, abs=0.015)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [([1, np.nan], [True, False]), ([1, 2], [True, True]), ([1, 2], [1, 0]), ([1, 2, 3], [True, False])],
)
def test_what_cannot_be_ranked_is_refused(scores: list[float], truth: list[bool]) -> None:
    for measure in (auroc, precision_at, roc):
        with pytest.raises(InputError):
            measure(scores, np.array(truth))


def test_maps_that_do_not_fit_their_truth_are_refused() -> None:
    truth = np.array([[True, False]])
    for maps, truths in (
        ([], []),
        ([np.zeros((1, 2))], [truth]),
        ([np.zeros((1, 1, 3))], [truth]),
        ([np.zeros((1, 1, 2))], []),
    ):
        with pytest.raises(InputError):
            recovery_p(maps, truths, seed=0)
