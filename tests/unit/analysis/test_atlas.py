"""Laws of the atlas: activity is what the gates do, heads are sums of units, and maps find what was planted."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mechgate.analysis.atlas import (
    activity_rows,
    agreement,
    atlas_numbers,
    by_head,
    head_activity,
    head_rows,
    maps_of,
    top_shares,
)
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet

FALSE = load_pairs("sycophancy", "medical", "test", phrasings=1)[:4]
TRUE = load_pairs("genuine-agreement", "medical", "test", phrasings=1)[:4]
LAYERS, HEADS, FACTS = 5, 4, 12
PLANTED = (3, 1)


def table(seed: str, size: float = 1.0, noise: float = 0.1, stream: int = 0) -> pd.DataFrame:
    """Made-up rows in which one head has an effect on every fact."""
    r = np.random.default_rng([stream, *map(ord, seed)])
    facts = [f"f{i:02}" for i in range(FACTS)]
    index = pd.MultiIndex.from_product([facts, range(LAYERS), range(HEADS)], names=["fact", "layer", "head"])
    values = noise * r.normal(size=(FACTS, LAYERS, HEADS))
    values[:, *PLANTED] += size
    level = 0.1 + 0.01 * r.random((FACTS, LAYERS, HEADS))
    columns = {"size false": level + values, "size true": level, "signed false": level - values, "signed true": level}
    rows = index.to_frame(index=False).assign(seed=seed, attribution=values.ravel())
    return rows.assign(**{name: one.ravel() for name, one in columns.items()})


@pytest.fixture(scope="module")
def learned() -> pd.DataFrame:
    return pd.concat([table(name) for name in "abc"], ignore_index=True)


@pytest.fixture(scope="module")
def numbers(learned: pd.DataFrame) -> dict[str, Any]:
    others = pd.concat([table(name, 0.0).assign(family="null") for name in "xy"])
    return atlas_numbers(learned, learned, others=others, top=(1, 5), draws=500)


def test_static_gates_are_equally_far_from_1_on_any_prompt(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat, input="static"))
    found = head_activity(chat, gates, FALSE, label=None)
    for k, layer in enumerate(gates.layers):
        delta = torch.tanh(gates.gate(layer).bias.detach() / 2).double().numpy().reshape(gates.shape.n_heads, -1)
        np.testing.assert_allclose(found[:, k, :, 0], np.tile(np.abs(delta).mean(1), (4, 1)), rtol=1e-6)
        np.testing.assert_allclose(found[:, k, :, 1], np.tile(delta.mean(1), (4, 1)), rtol=1e-5, atol=1e-8)
    rows = activity_rows(chat, gates, FALSE, TRUE).assign(seed="0")
    attribution = head_rows(np.random.default_rng(0).normal(size=found.shape[:3]), gates, FALSE).assign(seed="0")
    maps = atlas_numbers(rows, attribution, top=(1,), draws=99)["maps"]
    assert not np.any(maps["difference"]["values"])
    assert np.all(np.array(maps["signed difference"]["p"]) == 1)


@pytest.mark.parametrize("granularity", ["element", "head"])
def test_activity_depends_on_neither_batches_nor_the_other_prompts(
    chat: Any, shaken: Callable[..., GateSet], granularity: str
) -> None:
    gates = shaken(GateSet.identity(chat, granularity))
    whole = head_activity(chat, gates, FALSE, label=None)
    one_by_one = [head_activity(chat, gates, [pair], batch_size=1, label=None)[0] for pair in FALSE]
    np.testing.assert_allclose(whole, np.stack(one_by_one), atol=1e-5)
    assert np.ptp(whole[..., 0], axis=0).max() > 1e-3


def test_only_the_users_last_words_and_what_follows_count(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat, layers=[0]))  # layer 0 reads tokens alone, without their surroundings
    system = {"role": "system", "content": "Answer in one short sentence, whatever you are asked."}
    longer = [dataclasses.replace(pair, messages=(system, *pair.messages)) for pair in FALSE]
    plain, changed = (head_activity(chat, gates, pairs, label=None) for pairs in (FALSE, longer))
    np.testing.assert_allclose(plain, changed, atol=1e-5)


def test_negated_gates_change_the_sign_and_not_the_size(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    one = head_activity(chat, gates, FALSE, strength=1.0, label=None)
    other = head_activity(chat, gates.negated(), FALSE, strength=-1.0, label=None)
    np.testing.assert_allclose(other[..., 0], one[..., 0], rtol=1e-6)
    np.testing.assert_allclose(other[..., 1], -one[..., 1], rtol=1e-6)


def test_heads_are_sums_of_their_units(chat: Any) -> None:
    gates = GateSet.identity(chat)
    values = np.random.default_rng(0).normal(size=(3, len(gates.layers), gates.shape.d_z))
    found = by_head(values, gates)
    d = gates.shape.d_head
    np.testing.assert_allclose(found[..., 1], values[..., d : 2 * d].sum(axis=-1))
    np.testing.assert_allclose(found.sum(axis=-1), values.sum(axis=-1))
    with pytest.raises(InputError, match="no map of heads"):
        by_head(values[..., :1], GateSet.identity(chat, "layer"))


def test_a_facts_row_is_the_mean_over_its_phrasings(chat: Any) -> None:
    gates = GateSet.identity(chat)
    pairs = [
        pair
        for pair in load_pairs("sycophancy", "medical", "test", phrasings=2)
        if pair.fact_id in {FALSE[0].fact_id, FALSE[1].fact_id}
    ]
    values = np.random.default_rng(0).normal(size=(4, len(gates.layers), gates.shape.n_heads))
    rows = head_rows(values, gates, pairs)
    maps = maps_of(rows.assign(seed="a"), rows["attribution"])
    own = [pair.fact_id == maps.facts[1] for pair in pairs]
    np.testing.assert_allclose(maps.values[0, 1], values[own].mean(axis=0))


def test_false_claims_need_their_true_counterparts(chat: Any) -> None:
    with pytest.raises(InputError, match="same facts in the same wordings"):
        activity_rows(chat, GateSet.identity(chat), FALSE, TRUE[1:])


def test_the_planted_head_is_found_and_no_other(numbers: dict[str, Any]) -> None:
    for name in ("difference", "attribution"):
        significant = np.argwhere(np.array(numbers["maps"][name]["p"]) <= 0.05)
        assert significant.tolist() == [list(PLANTED)]
        assert np.array(numbers["maps"][name]["values"])[PLANTED] == pytest.approx(1, abs=0.1)
    assert np.array(numbers["maps"]["signed difference"]["values"])[PLANTED] == pytest.approx(-1, abs=0.1)
    beyond = np.argwhere(np.array(numbers["others"]["null"]["learned minus this"]["p"]) <= 0.05)
    assert beyond.tolist() == [list(PLANTED)]


def test_size_is_the_mean_of_both_kinds_of_claims_and_is_not_tested(
    numbers: dict[str, Any], learned: pd.DataFrame
) -> None:
    both = (learned["size false"] + learned["size true"]) / 2
    expected = both.groupby([learned["layer"], learned["head"]]).mean().to_numpy().reshape(LAYERS, HEADS)
    np.testing.assert_allclose(numbers["maps"]["size"]["values"], expected)
    assert "p" not in numbers["maps"]["size"]


def test_numbers_do_not_depend_on_the_order_of_rows(numbers: dict[str, Any], learned: pd.DataFrame) -> None:
    mixed = learned.sample(frac=1, random_state=1)
    again = atlas_numbers(mixed, mixed[::-1], top=(1, 5), draws=500)
    assert again["maps"] == numbers["maps"]


def test_agreement_is_spearmans_correlation(learned: pd.DataFrame) -> None:
    maps = maps_of(learned, learned["attribution"])
    cubed = dataclasses.replace(maps, values=maps.values.mean(axis=1, keepdims=True) ** 3)
    plain = dataclasses.replace(maps, values=maps.values.mean(axis=1, keepdims=True))
    assert agreement(cubed) == agreement(plain) == agreement(maps)
    assert agreement(maps)["pairs"] == 3
    one = dataclasses.replace(plain, values=plain.values[:1])
    assert agreement(one, one)["mean"] == pytest.approx(1)
    assert agreement(one) == {"mean": None, "low": None, "high": None, "pairs": 0}


def test_shares_are_even_on_a_flat_map_whole_on_a_single_head_and_honest_on_noise() -> None:
    rows = table("a", 0.0)
    flat, single = np.ones((2, FACTS, LAYERS, HEADS)), np.zeros((2, FACTS, LAYERS, HEADS))
    single[:, :, *PLANTED] = -2.0
    both = pd.concat([rows, rows.assign(seed="b")])
    for found in top_shares(maps_of(both, flat.ravel()), (1, 3, LAYERS * HEADS)):
        assert found["share"] == found["on other seeds"] == pytest.approx(found["even"])
    for found in top_shares(maps_of(both, single.ravel()), (1, 3)):
        assert found["share"] == found["on other facts"] == found["on other seeds"] == 1
    noise = [top_shares(maps_of(t, t["attribution"]), (5,))[0] for t in (table("a", 0.0, stream=i) for i in range(60))]
    even, chosen, honest = (np.mean([one[name] for one in noise]) for name in ("even", "share", "on other facts"))
    assert chosen > 1.5 * even
    assert honest == pytest.approx(even, abs=0.04)


def test_holes_doubles_and_strangers_are_errors(learned: pd.DataFrame) -> None:
    for wrong in (learned[1:], pd.concat([learned, learned[:1]]), learned[:0]):
        with pytest.raises(InputError, match="every head once"):
            maps_of(wrong, wrong["attribution"])
    with pytest.raises(InputError, match="finite"):
        maps_of(learned, learned["attribution"].where(learned["head"] != 0))
    with pytest.raises(InputError, match="same facts"):
        atlas_numbers(learned, learned, others=table("x")[LAYERS * HEADS :].assign(family="null"), top=(1,), draws=99)
    with pytest.raises(InputError, match="cannot be chosen"):
        top_shares(maps_of(learned, learned["attribution"]), (LAYERS * HEADS + 1,))
