"""Laws of head sets: alone they do what they do alone, the smallest set is the planted one, random sets keep the layers."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mechgate.analysis.head_sets import (
    SetEffects,
    added_up,
    complement,
    ordered,
    random_sets,
    sizes_of,
    smallest_set,
)
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.subsets import gated_heads, keep_heads
from mechgate.measure.margins import stance_margins
from mechgate.seeding import rng

Shake = Callable[..., GateSet]
PAIRS = load_pairs("sycophancy", "medical", "test", phrasings=1)[:3]
ANSWERS = (("Yes, that's right.", "No, that's wrong."), ("True.", "False."))


@pytest.fixture
def gates(chat: Any, shaken: Shake) -> GateSet:
    return shaken(GateSet.identity(chat), size=0.5)


def effects(model: Any, gates: GateSet, sets: list[Any], strength: float = -1.0) -> np.ndarray:
    return SetEffects(model, gates, PAIRS, ANSWERS, strength=strength)(sets, None)


def test_an_effect_is_what_stance_margins_say_with_these_gates_alone(chat: Any, gates: GateSet) -> None:
    sets = [[(0, 1)], [(1, 0), (2, 3)], gated_heads(gates), [], [(0, 1)]]
    found = effects(chat, gates, sets)
    base = stance_margins(chat, PAIRS, ANSWERS, label=None).mean(axis=1)
    for heads, values in zip(sets, found, strict=True):
        with keep_heads(gates, heads).attached(chat, -1.0):
            expected = stance_margins(chat, PAIRS, ANSWERS, label=None).mean(axis=1) - base
        np.testing.assert_allclose(values, expected, atol=1e-4)
    with gates.attached(chat, -1.0):
        whole = stance_margins(chat, PAIRS, ANSWERS, label=None).mean(axis=1) - base
    np.testing.assert_allclose(found[2], whole, atol=1e-5)
    assert not found[3].any()
    np.testing.assert_array_equal(found[0], found[4])


def test_a_set_and_its_complement_are_all_gated_heads(chat: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(chat, layers=[0, 2]))
    rest = complement(gates, [(0, 1), (2, 2)])
    assert sorted([*rest, (0, 1), (2, 2)]) == gated_heads(gates)
    assert complement(gates, gated_heads(gates)) == []


def test_planted_heads_come_first_and_are_the_smallest_set(chat: Any, gates: GateSet) -> None:
    planted = {(0, 2), (1, 1), (2, 0)}
    only = keep_heads(gates, planted)
    measure = SetEffects(chat, only, PAIRS, ANSWERS, strength=-1.0)
    alone = measure([[head] for head in gated_heads(gates)], None).mean(axis=1).reshape(3, 4)
    assert {tuple(head) for head in np.argwhere(alone != 0).tolist()} == planted
    order = ordered(only, np.abs(alone))
    assert set(order[:3]) == planted
    whole = measure([order], None).mean()
    found = smallest_set(order, lambda k: float(measure([order[:k]], None).mean() / whole), share=0.9)
    assert found is not None
    assert set(found.heads) <= planted
    exact = smallest_set(order, lambda k: float(set(order[:k]) >= planted))
    assert exact is not None
    assert set(exact.heads) == planted


@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_set_of_a_rising_curve_is_what_a_walk_finds(seed: int) -> None:
    n = 1 + seed * 7
    curve = np.sort(rng(seed, "curve").random(n))
    curve /= curve[-1]
    order = [(0, k) for k in range(n)]
    walk = next(k for k in range(1, n + 1) if curve[k - 1] >= 0.9)
    found = smallest_set(order, lambda k: float(curve[k - 1]))
    assert found is not None
    assert (len(found.heads), found.share) == (walk, curve[walk - 1])
    assert found.tried == {k: curve[k - 1] for k in found.tried}
    assert walk == 1 or found.tried[walk - 1] < 0.9
    assert len(found.tried) <= 2 * np.log2(n) + 2


def test_a_curve_that_never_keeps_enough_has_no_smallest_set() -> None:
    assert smallest_set([(0, 0), (0, 1)], lambda k: 0.5) is None


def test_sizes_grow_by_doubling_and_end_with_all() -> None:
    assert sizes_of(270) == [1, 2, 4, 8, 16, 32, 64, 128, 270]
    for n in range(1, 400):
        sizes = sizes_of(n)
        assert (sizes[0], sizes[-1]) == (1, n)
        assert all(1.4 * a < b <= 2.8 * a for a, b in itertools.pairwise(sizes))


AMONG = [(layer, head) for layer in range(8) for head in range(6)]


def test_random_sets_have_the_layers_of_the_set_or_any() -> None:
    heads = [(0, 1), (3, 0), (3, 4), (7, 2)]
    for within in ("layers", "all"):
        sets = random_sets(heads, AMONG, within=within, seed=0, draws=400)
        assert all(len(set(one)) == 4 and set(one) <= set(AMONG) for one in sets)
        assert len({tuple(one) for one in sets}) > 200
        assert sets[:50] == random_sets(heads, AMONG, within=within, seed=0, draws=50)
        profiles = {tuple(layer for layer, _ in one) for one in sets}
        assert (profiles == {(0, 3, 3, 7)}) == (within == "layers")
        counts = {head: sum(head in one for one in sets) / 400 for head in AMONG}
        for head, share in counts.items():
            expected = [h[0] for h in heads].count(head[0]) / 6 if within == "layers" else 4 / 48
            assert share == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 400))


def test_a_set_of_whole_layers_has_no_other_in_the_same_layers() -> None:
    whole = [head for head in AMONG if head[0] in (2, 5)]
    sets = random_sets(whole, AMONG, within="layers", seed=0, draws=20)
    assert {frozenset(one) for one in sets} == {frozenset(whole)}
    with pytest.raises(InputError, match="within"):
        random_sets(whole, AMONG, within="heads", seed=0, draws=1)


def test_sums_are_over_the_heads_of_each_set(chat: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(chat, layers=[0, 2]))
    values = rng(0, "values").standard_normal((2, 4))
    sets = [[(0, 1), (2, 3)], [], gated_heads(gates)]
    np.testing.assert_allclose(added_up(gates, values, sets), [values[0, 1] + values[1, 3], 0.0, values.sum()])


def test_a_set_is_measured_once(chat: Any, gates: GateSet, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = SetEffects(chat, gates, PAIRS, ANSWERS, strength=1.0)
    first = measure([[(0, 1)], [(1, 1), (0, 2)]], None)
    monkeypatch.setattr("mechgate.analysis.head_sets.batch_margins", lambda *_: pytest.fail("measured again"))
    np.testing.assert_array_equal(measure([[(0, 2), (1, 1)], [(0, 1)], []], None)[:2], first[::-1])


def test_bad_input_is_an_error(chat: Any, gates: GateSet) -> None:
    with pytest.raises(InputError, match="no head sets"):
        effects(chat, gates, [])
    with pytest.raises(InputError, match="without gates"):
        effects(chat, gates, [[(3, 0)]])
    for wrong in (np.zeros((2, 4)), np.full((3, 4), np.nan)):
        with pytest.raises(InputError, match="one finite number"):
            ordered(gates, wrong)
