"""Laws of detection: the AUROC is a count of won comparisons, chance is not found, and what separates is."""

import numpy as np
import pytest
from scipy.stats import kstest

from mechgate.errors import InputError
from mechgate.stats.detection import detection


def test_it_is_the_share_of_won_comparisons() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 5, (9, 2)).astype(float), generator.integers(0, 5, (9, 2)).astype(float)
    found = detection(a, b, seed=0, draws=99)
    for place in range(2):
        won = [(x > y) + 0.5 * (x == y) for x in a[:, place] for y in b[:, place]]
        assert found.auroc[place] == pytest.approx(np.mean(won))
        assert found.low[place] <= found.auroc[place] <= found.high[place]
    swapped = detection(b, a, seed=0, draws=99)
    assert np.array(swapped.auroc) + np.array(found.auroc) == pytest.approx(1)
    assert swapped.null.p == found.null.p
    assert found.to_json()["pairs"] == 9


def test_equal_scores_are_chance_and_separated_ones_are_found() -> None:
    x = np.random.default_rng(1).standard_normal((20, 1))
    same = detection(x, x, seed=0, draws=99)
    assert same.auroc == (0.5,)
    assert same.null.p == (1.0,)
    apart = detection(x + 10, x, seed=0, draws=99)
    assert (apart.auroc, apart.null.p_any) == ((1.0,), 0.01)


def test_null_p_values_are_uniform() -> None:
    generator = np.random.default_rng(2)
    found = []
    for run in range(300):
        shared = 2 * generator.standard_normal((25, 3))  # of a pair
        a, b = (shared + generator.standard_normal((25, 3)) for _ in range(2))
        found.append(detection(a, b, seed=run, draws=99).null.p_any)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert kstest(np.array(found) - generator.uniform(0, 0.01, 300), "uniform").pvalue > 0.01


def test_what_is_not_matched_is_an_error() -> None:
    for a, b in ((np.ones((3, 1)), np.ones((2, 1))), (np.ones(3), np.ones(3)), (np.ones((1, 1)), np.ones((1, 1)))):
        with pytest.raises(InputError, match="matched"):
            detection(a, b, seed=0)
    with pytest.raises(InputError, match="finite"):
        detection(np.full((3, 1), np.nan), np.ones((3, 1)), seed=0)
