"""Laws of chosen latents and their overlap: planted ones are found, a dampener shares no more than its rates say."""

from typing import Any

import numpy as np
import pytest

from mechgate.analysis.latents import Chosen, chosen_latents, effect_share, overlaps
from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.overlap import strata

FACTS, LATENTS = 40, 300


def noise(seed: int, planted: Any = (), size: float = 1.0) -> np.ndarray:
    found = rng(seed, "noise").standard_normal((FACTS, LATENTS))
    found[:, list(planted)] += size
    return found


def slow_t(matrix: np.ndarray) -> list[float]:
    return [column.mean() / (column.std(ddof=1) / len(column) ** 0.5) for column in matrix.T]


def test_planted_latents_are_chosen_and_few_others() -> None:
    planted = list(range(0, 60, 3))
    found = chosen_latents(noise(0, planted, 1.5), seed=0)
    assert found.chosen[planted].mean() > 0.9
    assert found.chosen.sum() - found.chosen[planted].sum() <= 2
    assert found.screened >= found.chosen.sum()
    np.testing.assert_allclose(found.effect, noise(0, planted, 1.5).mean(axis=0))
    np.testing.assert_allclose(found.t, slow_t(noise(0, planted, 1.5)))


def test_noise_is_hardly_ever_confirmed_and_still_latents_never() -> None:
    matrix = noise(1)
    matrix[:, :50] = 0.0
    found = [chosen_latents(np.where(matrix, noise(k), 0.0), seed=k) for k in range(20)]
    assert sum(int(one.chosen.sum()) for one in found) <= 2
    assert not any(one.chosen[:50].any() for one in found)


def test_what_one_half_shows_and_the_other_does_not_is_not_chosen() -> None:
    order = rng(0, "latents", "halves").permutation(FACTS)
    matrix = 0.1 * noise(2)
    matrix[order[: FACTS // 2], 0] += 3.0  # in the half that screens alone
    found = chosen_latents(matrix, seed=0)
    assert (found.screened >= 1, bool(found.chosen[0])) == (True, False)


def chosen(mask: np.ndarray, effect: np.ndarray) -> Chosen:
    return Chosen(chosen=mask, effect=effect, t=effect, screened=int(mask.sum()), facts=FACTS)


def overlap(moved: Chosen, marked: Chosen, rate: np.ndarray, draws: int = 499) -> Any:
    decoder = np.eye(LATENTS)
    return overlaps(moved, marked, decoder, np.arange(LATENTS), strata(rate, np.ones(LATENTS)), seed=0, draws=draws)


def test_latents_that_are_both_moved_and_marked_overlap_by_every_statistic() -> None:
    stream = rng(0, "both")
    mask = stream.random(LATENTS) < 0.1
    effect = np.where(mask, 3.0, 0.1 * stream.standard_normal(LATENTS))
    found = overlap(chosen(mask, effect), chosen(mask, effect), stream.random(LATENTS))
    assert all(one.p == 1 / 500 for one in found.values())
    assert found["jaccard"].value == found["span overlap"].value == 1.0


def test_a_dampener_overlaps_no_more_than_its_rates_say() -> None:
    """A dampener moves every latent by a share of its activation: those that fire often, which also mark more often."""
    p: dict[str, list[float]] = {}
    for k in range(60):
        stream = rng(k, "dampener")
        rate = stream.random(LATENTS) ** 3
        moved = chosen(stream.random(LATENTS) < rate, -0.3 * rate)
        marked = chosen(stream.random(LATENTS) < 0.5 * rate, stream.standard_normal(LATENTS))
        for name, one in overlap(moved, marked, rate, draws=99).items():
            p.setdefault(name, []).append(one.p)
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)
    assert {name: bool(np.mean(np.array(values) <= 0.05) <= limit) for name, values in p.items()} == dict.fromkeys(
        p, True
    )


def test_near_duplicates_are_counted_once() -> None:
    decoder = np.eye(4)[[0, 0, 0, 1, 2, 3]]
    clusters = np.array([0, 0, 0, 1, 2, 3])
    mask = np.array([True, True, True, True, False, False])
    other = np.array([True, False, False, False, True, False])
    effect = np.arange(6.0)
    found = overlaps(
        chosen(mask, effect), chosen(other, effect), decoder, clusters, np.zeros(4, dtype=np.int64), seed=0, draws=99
    )
    jaccard = found["jaccard"]
    assert jaccard is not None
    assert jaccard.value == 1 / 3  # clusters 0 and 1 against 0 and 2


def test_nothing_chosen_has_no_overlap_of_sets() -> None:
    none, some = np.zeros(LATENTS, dtype=bool), np.arange(LATENTS) < 5
    found = overlap(
        chosen(none, np.arange(LATENTS) / 9), chosen(some, np.arange(LATENTS) / 7), rng(0, "x").random(LATENTS)
    )
    assert (found["jaccard"], found["span overlap"]) == (None, None)
    assert found["rank-biased overlap"] is not None


def test_the_share_is_the_effect_that_goes() -> None:
    plain = {"base": np.array([1.0, 2.0]), "gated": np.array([-1.0, 1.0])}
    ablated = {"base": np.array([0.5, 2.0]), "gated": np.array([0.0, 2.0])}
    np.testing.assert_allclose(effect_share(plain, ablated), [-2.0 - (-0.5), -1.0])


@pytest.mark.parametrize("matrix", [np.zeros((7, 3)), np.zeros(9), np.full((9, 2), np.nan)])
def test_too_few_facts_and_what_is_not_finite_are_errors(matrix: np.ndarray) -> None:
    with pytest.raises(InputError, match="facts x latents"):
        chosen_latents(matrix, seed=0)
