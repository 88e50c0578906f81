"""Laws of the change of the stance margin by token role."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechgate.analysis.roles import ALL, ALONE, TOGETHER, WITHOUT, role_effects, role_rows
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import stance_margins
from mechgate.model.roles import ROLES
from mechgate.stats.estimates import bootstrap_mean

SETS = {task: load_pairs(task, "medical", "test", phrasings=1)[:3] for task in ("sycophancy", "genuine-agreement")}


@pytest.fixture(scope="module")
def gates(chat: Any, shaken: Callable[..., GateSet]) -> GateSet:
    return shaken(GateSet.identity(chat))


@pytest.fixture(scope="module")
def rows(chat: Any, gates: GateSet) -> pd.DataFrame:
    return role_rows(chat, gates, SETS, [-1.0, 0.0, 1.0])


def planted(n: int = 20, strength: float = 1.0) -> pd.DataFrame:
    """A world where the claim carries 2 nats, the response 1, the other roles nothing, and claim and response 1 more."""
    size = {"template": 0.0, "claim": 2.0, "post-claim": 0.0, "response": 1.0, ALL: 4.0}
    noise = np.random.default_rng(0).normal(size=n)
    table = [
        {"set": "s", "pair": f"{i}/0", "fact": str(i), "strength": strength, "where": part, "change": mean + noise[i]}
        for part, mean in size.items()
        for i in range(n)
    ]
    return pd.DataFrame(table)


def test_there_is_a_row_a_prompt_strength_and_part(rows: pd.DataFrame) -> None:
    assert len(rows) == 2 * 3 * 3 * 5
    assert not rows.duplicated(["set", "pair", "strength", "where"]).any()
    assert set(rows["where"]) == {*ROLES, ALL}


def test_changes_are_from_the_base_and_all_roles_are_the_plain_gate(
    chat: Any, gates: GateSet, rows: pd.DataFrame
) -> None:
    for name, pairs in SETS.items():
        base = stance_margins(chat, pairs, label=None).mean(axis=1)
        with gates.attached(chat, -1.0):
            whole = stance_margins(chat, pairs, label=None).mean(axis=1)
        table = rows[(rows["set"] == name) & (rows["strength"] == -1) & (rows["where"] == ALL)]
        np.testing.assert_array_equal(table["stance_margin"], whole)
        np.testing.assert_array_equal(table["change"], whole - base)
        here = rows[rows["set"] == name]
        np.testing.assert_allclose(here["stance_margin"] - here["change"], np.tile(base, 15))


def test_at_strength_0_no_role_changes_anything(rows: pd.DataFrame) -> None:
    assert (rows.loc[rows["strength"] == 0, "change"] == 0).all()
    assert rows[rows["strength"] != 0].groupby(["strength", "where"])["change"].apply(lambda c: (c != 0).all()).all()


def test_other_parts_can_be_asked_for(chat: Any, gates: GateSet) -> None:
    one = role_rows(chat, gates, SETS, [1.0], parts=WITHOUT)
    assert set(one["where"]) == {f"all but {role}" for role in ROLES}
    assert TOGETHER not in set(role_effects(one, seed=0)["where"])
    with pytest.raises(InputError, match="where must name roles"):
        role_rows(chat, gates, SETS, [1.0], parts={"x": ("claims",)})
    usual: dict[str, Any] = dict(sets=SETS, strengths=[1.0], parts=ALONE)
    changes: list[dict[str, Any]] = [dict(sets={}), dict(strengths=[]), dict(parts={})]
    for nothing in changes:
        with pytest.raises(InputError, match="nothing to measure"):
            role_rows(chat, gates, **(usual | nothing))


def test_pairs_without_a_claim_are_refused(chat: Any, gates: GateSet) -> None:
    with pytest.raises(InputError, match="which of its tokens are the claim"):
        role_rows(chat, gates, {"advice": load_pairs("bad-advice", "medical", "test")[:2]}, [1.0])


def test_effects_are_means_over_facts_and_what_roles_do_together_is_the_rest() -> None:
    table = planted()
    found: dict[Any, Any] = role_effects(table, seed=3).set_index("where").to_dict("index")
    for part in (*ROLES, ALL):
        own = table[table["where"] == part]
        expected = bootstrap_mean(own["change"].to_numpy(), own["fact"].to_numpy(), seed=3)
        assert (found[part]["value"], found[part]["n"]) == (pytest.approx(expected.value), 20)
        assert found[part]["low"] == pytest.approx(expected.low)
        assert found[part]["share"] == pytest.approx(expected.value / found[ALL]["value"])
    parts = sum(found[role]["value"] for role in ROLES)
    assert found[TOGETHER]["value"] == pytest.approx(found[ALL]["value"] - parts)
    noise = table[table["where"] == "template"]["change"].mean()
    assert found[TOGETHER]["value"] == pytest.approx(1 - 3 * noise)


def test_the_order_of_rows_does_not_matter() -> None:
    table = planted()
    mixed = role_effects(table.sample(frac=1, random_state=1), seed=0).set_index("where").sort_index()
    pd.testing.assert_frame_equal(mixed, role_effects(table, seed=0).set_index("where").sort_index())
