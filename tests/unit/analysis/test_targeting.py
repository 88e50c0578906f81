"""Laws of targeting: planted heads are found, layers alone do not count, p-values are fair."""

import numpy as np
import pytest

from mechgate.analysis.targeting import random_sets, smallest_set, targeting
from mechgate.errors import InputError
from mechgate.seeding import rng

SHAPE = (10, 6)


def maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(rng(seed, "maps").standard_normal((2, *SHAPE)))  # type: ignore[return-value]


def test_planted_heads_are_found() -> None:
    gates, causal = maps(0)
    for layer, head in ((1, 2), (4, 0), (4, 5), (7, 3), (9, 1)):
        gates[layer, head], causal[layer, head] = 9.0 + layer, -12.0 - layer
    found = targeting(gates, causal, top=(5,), draws=199)
    assert found["precision, 5"]["value"] == found["auroc, 5"]["value"] == 1.0
    assert all(
        found[name][f"p, {w}"] == 1 / 200 for name in ("precision, 5", "auroc, 5", "overlap") for w in ("layers", "all")
    )


def test_values_are_what_slow_counts_give() -> None:
    gates, causal = maps(1)
    found = targeting(gates, causal, top=(4,), draws=19)
    a, b = np.abs(gates).ravel().tolist(), np.abs(causal).ravel().tolist()
    carriers = sorted(range(60), key=lambda i: -b[i])[:4]
    gated = sorted(range(60), key=lambda i: -a[i])[:4]
    wins = [(a[i] > a[j]) + (a[i] == a[j]) / 2 for i in carriers for j in range(60) if j not in carriers]
    assert found["auroc, 4"]["value"] == pytest.approx(sum(wins) / len(wins))
    assert found["precision, 4"]["value"] == len(set(carriers) & set(gated)) / 4
    ranks = [np.argsort(np.argsort(v)) for v in (a, b)]
    assert found["spearman"]["value"] == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1])


def test_maps_that_share_their_layers_alone_are_not_called_targeted() -> None:
    within, over_all = [], []
    for k in range(40):
        layers = rng(k, "layers").exponential(size=(10, 1)) ** 2
        gates, causal = (np.abs(one) * layers for one in maps(k))
        found = targeting(gates, causal, top=(5,), draws=59)["spearman"]
        within.append(found["p, layers"])
        over_all.append(found["p, all"])
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / 40)
    assert np.mean(np.array(within) <= 0.05) <= limit
    assert np.mean(np.array(over_all) <= 0.05) > 0.5


def test_random_sets_have_the_layers_of_the_set() -> None:
    heads = [(0, 1), (3, 0), (3, 4), (7, 2)]
    sets = random_sets(heads, 6, seed=0, draws=50)
    assert {tuple(sorted(layer for layer, _ in one)) for one in sets} == {(0, 3, 3, 7)}
    assert all(len(set(one)) == 4 for one in sets)
    assert len({tuple(one) for one in sets}) > 20
    assert sets == random_sets(heads, 6, seed=0, draws=50)


def test_the_smallest_set_keeps_enough_and_no_shorter_one_does() -> None:
    order = [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert smallest_set(order, [-0.5, -1.8, -1.7, -2.0], -2.0) == ([(0, 0), (1, 1)], 0.9)
    assert smallest_set(order, [0.1, 0.2, 0.3, 0.4], 2.0) is None
    for wrong in (([1.0], 2.0), ([1.0] * 4, 0.0)):
        with pytest.raises(InputError):
            smallest_set(order, *wrong)


def test_maps_that_cannot_be_compared_are_errors() -> None:
    gates, causal = maps(2)
    for wrong in ((gates, causal[:-1]), (gates, np.ones(SHAPE)), (np.full(SHAPE, np.nan), causal)):
        with pytest.raises(InputError):
            targeting(*wrong, draws=19)
    for top in ((0,), (60,)):
        with pytest.raises(InputError, match="top heads"):
            targeting(gates, causal, top=top, draws=19)
