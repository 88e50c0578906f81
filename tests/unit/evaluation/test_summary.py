"""Laws of the evaluation's table: levels and paired changes of rows that are made up, against slow arithmetic."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from mechgate.errors import InputError
from mechgate.evaluation.design import BENIGN, OPEN
from mechgate.evaluation.summary import DISCRIMINATION, LINES, table_of

FACTS = [f"f{i:02}" for i in range(20)]
KNOWN = set(FACTS[::3])
ARMS = [("", 0.0), ("one", -1.0), ("two", -1.0), ("one", 1.0), ("two", 1.0)]
Rows = dict[str, pd.DataFrame]
Entry = dict[str, Any]


def arm_rows(prompts: list[dict[str, Any]], host: str, seed: str, strength: float) -> pd.DataFrame:
    return pd.DataFrame(prompts).assign(host=host, seed=seed, strength=strength)


def claims(of: str, phrasings: int = 2) -> list[dict[str, Any]]:
    """Rows of a set on facts; the first facts have one phrasing more, so that rows and facts weigh differently."""
    return [
        {"id": f"{of}/{fact}/{k}", "fact": fact, "domain": "x", "set": of}
        for i, fact in enumerate(FACTS)
        for k in range(phrasings + (i < 5))
    ]


def made_up(seed: int = 0, hosts: tuple[str, ...] = ("base", "host"), arms: Any = None) -> Rows:
    """Rows of all tables, of every host and arm, with random numbers."""
    draw = np.random.default_rng(seed)
    found: dict[str, list[pd.DataFrame]] = {"stance": [], "neutral": [], "items": [], "replies": []}
    for host in hosts:
        for name, strength in arms or ARMS:
            where = (host, name, strength)
            both = [*claims("sycophancy"), *claims("genuine-agreement")]
            found["stance"].append(arm_rows(both, *where).assign(value=draw.normal(size=len(both))))
            texts = [
                {"id": f"t{i}", "fact": f"t{i}", "domain": s, "set": s} for s in ("prose", "chat") for i in range(9)
            ]
            texts = [{**t, "id": f"{t['set']}{t['id']}", "fact": f"{t['set']}{t['id']}"} for t in texts]
            tokens = 10 + 7 * (np.arange(len(texts)) % 5)
            found["neutral"].append(
                arm_rows(texts, *where).assign(
                    tokens=tokens,
                    nll=tokens * draw.uniform(1, 3, len(texts)),
                    kl=tokens * draw.uniform(0, 1, len(texts)),
                )
            )
            items = [{"id": f"i{i}", "fact": f"i{i}", "domain": "x", "set": "four-choice"} for i in range(30)]
            found["items"].append(
                arm_rows(items, *where).assign(right=draw.integers(0, 2, 30), value=draw.normal(size=30))
            )
            asked = [{"id": f"{s}/{f}", "fact": f, "domain": "x", "set": s} for s in (OPEN, BENIGN) for f in FACTS]
            asked += claims("false claims", 1)
            n = len(asked)
            found["replies"].append(
                arm_rows(asked, *where).assign(
                    stance=draw.choice(["agree", "disagree", "hedge", "neither"], n),
                    empty=draw.integers(0, 2, n),
                    refusal=draw.integers(0, 2, n),
                    words=draw.integers(0, 30, n),
                    repetition=draw.uniform(0, 1, n),
                )
            )
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return made_up()


@pytest.fixture(scope="module")
def table(rows: Rows) -> list[Entry]:
    return table_of(rows, KNOWN, seed=0)


def entry(table: list[Entry], line: str, host: str = "base", strength: float = 0.0, subset: str = "all") -> Entry:
    (found,) = [
        e for e in table if (e["line"], e["host"], e["strength"], e["subset"]) == (line, host, strength, subset)
    ]
    return found


def slow_mean(part: pd.DataFrame, column: str, strength: float) -> dict[str, float]:
    """Prompt by prompt over seeds, then fact by fact over prompts."""
    part = part[part["strength"] == strength]
    found = {}
    for fact in sorted(set(part["fact"])):
        of_fact = part[part["fact"] == fact]
        prompts = [of_fact.loc[of_fact["id"] == i, column].mean() for i in sorted(set(of_fact["id"]))]
        found[fact] = sum(prompts) / len(prompts)
    return found


def part_of(rows: Rows, table: str, set_: str, host: str = "base") -> pd.DataFrame:
    held = rows[table]
    return held[(held["host"] == host) & (held["set"] == set_)]


@pytest.mark.parametrize("strength", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("host", ["base", "host"])
@pytest.mark.parametrize("subset", ["all", "known"])
def test_a_margins_level_and_change_are_means_over_facts(
    rows: Rows, table: list[Entry], strength: float, host: str, subset: str
) -> None:
    found = entry(table, "stance margin, false claims", host, strength, subset)
    part = part_of(rows, "stance", "sycophancy", host)
    if subset == "known":
        part = part[part["fact"].isin(KNOWN)]
    level, start = slow_mean(part, "value", strength), slow_mean(part, "value", 0.0)
    assert found["level"]["value"] == pytest.approx(np.mean(list(level.values())))
    assert found["n"] == found["level"]["n"] == len(level) == (len(KNOWN) if subset == "known" else 20)
    if strength == 0:
        assert found["change"] is None
    else:
        changes = [level[fact] - start[fact] for fact in level]
        assert found["change"]["value"] == pytest.approx(np.mean(changes))
        assert found["change"]["n"] == len(changes)
        assert found["change"]["low"] < np.mean(changes) < found["change"]["high"]
        assert found["change_unit"] == "nats"


def test_a_change_is_paired_and_so_surer_than_two_levels() -> None:
    rows = made_up()
    held = rows["stance"]
    size = held["fact"].map({fact: 10.0 * i for i, fact in enumerate(FACTS)})
    rows["stance"] = held.assign(value=held["value"] * 0.01 + size + held["strength"])
    found = entry(table_of(rows, KNOWN, seed=0), "stance margin, false claims", strength=1.0)
    assert found["level"]["high"] - found["level"]["low"] > 10
    assert found["change"]["high"] - found["change"]["low"] < 0.1
    assert found["change"]["value"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("strength", [-1.0, 1.0])
@pytest.mark.parametrize("kind", ["prose", "chat"])
def test_perplexity_is_exp_of_nats_a_token_and_changes_by_a_ratio(
    rows: Rows, table: list[Entry], kind: str, strength: float
) -> None:
    part = part_of(rows, "neutral", kind)
    level, start = slow_mean(part, "nll", strength), slow_mean(part, "nll", 0.0)
    tokens = sum(slow_mean(part, "tokens", 0.0).values())
    found = entry(table, f"perplexity, {kind}", strength=strength)
    base = entry(table, f"perplexity, {kind}")
    assert found["level"]["value"] == pytest.approx(math.exp(sum(level.values()) / tokens))
    difference = sum(level[text] - start[text] for text in level) / tokens
    assert found["change"]["value"] == pytest.approx(math.exp(difference))
    assert found["change"]["value"] == pytest.approx(found["level"]["value"] / base["level"]["value"])
    assert (found["change_unit"], found["unit"]) == ("ratio", "perplexity")
    assert 0 < found["change"]["low"] < found["change"]["value"] < found["change"]["high"]
    kl = entry(table, f"KL from base, {kind}", strength=strength)
    assert kl["level"]["value"] == pytest.approx(sum(slow_mean(part, "kl", strength).values()) / tokens)
    assert kl["change_unit"] == "nats/token"


def test_seeds_are_averaged_prompt_by_prompt_and_each_is_named(rows: Rows, table: list[Entry]) -> None:
    for line, name, column in (
        ("stance margin, false claims", "stance", "value"),
        ("four-choice margin", "items", "value"),
    ):
        found = entry(table, line, strength=-1.0)
        part = part_of(rows, name, "sycophancy" if name == "stance" else "four-choice")
        assert set(found["seeds"]) == {"one", "two"}
        for seed, value in found["seeds"].items():
            alone = slow_mean(part[part["seed"] == seed], column, -1.0)
            assert value == pytest.approx(np.mean(list(alone.values())))
        assert found["level"]["value"] == pytest.approx(np.mean(list(found["seeds"].values())))
        assert entry(table, line)["seeds"] == {}


def test_two_seeds_that_agree_are_as_sure_as_one() -> None:
    one = made_up(arms=[("", 0.0), ("one", 1.0)])
    two = {
        name: pd.concat([held, held[held["strength"] == 1].assign(seed="two")], ignore_index=True)
        for name, held in one.items()
    }
    expected, found = (table_of(rows, KNOWN, seed=0) for rows in (one, two))
    for mine, theirs in zip(found, expected, strict=True):
        if mine["without_value"] == 0 and mine["strength"] == 1:
            for name in ("level", "change"):
                assert mine[name]["value"] == pytest.approx(theirs[name]["value"])
                # Resamples that are the sample itself tie with it but for rounding, which moves a BCa interval a little.
                for end in ("low", "high"):
                    assert mine[name][end] == pytest.approx(theirs[name][end], rel=0.05, abs=0.01)


def test_a_share_of_single_replies_is_exact_and_one_of_averages_is_not() -> None:
    rows = made_up(arms=[("", 0.0), ("one", 1.0), ("two", 1.0)])
    table = table_of(rows, KNOWN, seed=0)
    part = part_of(rows, "replies", BENIGN)
    start = part[part["strength"] == 0]["refusal"]
    found = entry(table, "replies refuse, benign prompts")["level"]
    exact = scipy.stats.binomtest(int(start.sum()), len(start)).proportion_ci(0.95, "exact")
    assert found["method"] == "Clopper-Pearson"
    assert (found["low"], found["high"]) == pytest.approx((exact.low, exact.high))
    assert found["n"] == len(start) == 20
    assert entry(table, "replies refuse, benign prompts", strength=1.0)["level"]["method"] != "Clopper-Pearson"
    # Some facts have two wordings: their replies are no independent units.
    assert entry(table, "replies agree, false claims")["level"]["method"] != "Clopper-Pearson"


@pytest.mark.parametrize("stance", ["agree", "disagree", "hedge"])
def test_shares_of_stances_count_that_stance_over_facts(rows: Rows, table: list[Entry], stance: str) -> None:
    part = part_of(rows, "replies", "false claims")
    part = part.assign(hit=[float(s == stance) for s in part["stance"]])
    found = entry(table, f"replies {stance}, false claims", strength=1.0)
    assert found["level"]["value"] == pytest.approx(np.mean(list(slow_mean(part, "hit", 1.0).values())))


def test_a_strength_measured_on_other_prompts_is_an_error() -> None:
    for lost in (0.0, 1.0):
        rows = made_up(arms=[("", 0.0), ("one", 1.0)])
        held = rows["stance"]
        gone = (held["strength"] == lost) & (held["id"] == "sycophancy/f03/0") & (held["host"] == "host")
        rows["stance"] = held[~gone]
        with pytest.raises(InputError, match=r"other prompts than strength 0.*false claims"):
            table_of(rows, KNOWN, seed=0)


def test_a_gate_set_measured_on_other_prompts_than_another_is_an_error() -> None:
    rows = made_up()
    held = rows["stance"]
    gone = (held["strength"] == 1) & (held["id"] == "sycophancy/f03/0") & (held["seed"] == "two")
    rows["stance"] = held[~gone]
    with pytest.raises(InputError, match=r"other prompts.*two"):
        table_of(rows, KNOWN, seed=0)


@pytest.mark.parametrize("empty_at", [[0.0], [1.0], [0.0, 1.0]], ids=str)
def test_replies_that_are_all_empty_have_no_repetition_and_no_nan(empty_at: list[float]) -> None:
    rows = made_up(arms=[("", 0.0), ("one", 1.0)], hosts=("base",))
    held = rows["replies"]
    silent = held["strength"].isin(empty_at)
    rows["replies"] = held.assign(repetition=held["repetition"].mask(silent), empty=held["empty"].mask(silent, 1))
    table = table_of(rows, KNOWN, seed=0)
    json.dumps(table, allow_nan=False)
    for strength in (0.0, 1.0):
        found = entry(table, "repetition, open questions", strength=strength)
        assert (found["level"] is None) == (strength in empty_at)
        assert found["change"] is None
        assert found["without_value"] == (20 if strength in empty_at else 0)
        assert found["n"] == (0 if strength in empty_at else 20)
        share = entry(table, "replies empty, open questions", strength=strength)["level"]
        assert share["value"] == 1 or strength not in empty_at


def test_a_change_is_from_prompts_that_have_a_value_at_both_strengths() -> None:
    rows = made_up(arms=[("", 0.0), ("one", 1.0)], hosts=("base",))
    held = rows["replies"]
    silent = (held["fact"].isin(FACTS[:4]) & (held["strength"] == 0)) | (
        held["fact"].isin(FACTS[3:9]) & (held["strength"] == 1)
    )
    rows["replies"] = held = held.assign(repetition=held["repetition"].mask(silent))
    found = entry(table_of(rows, KNOWN, seed=0), "repetition, open questions", strength=1.0)
    part = held[held["set"] == OPEN].pivot(index="fact", columns="strength", values="repetition").dropna()
    assert found["change"]["value"] == pytest.approx((part[1.0] - part[0.0]).mean())
    assert (found["change"]["n"], found["level"]["n"], found["n"], found["without_value"]) == (11, 14, 14, 6)


@pytest.mark.parametrize("strength", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("subset", ["all", "known"])
def test_discrimination_is_a_facts_false_claim_minus_its_true_one(
    rows: Rows, table: list[Entry], strength: float, subset: str
) -> None:
    def gaps(at: float) -> np.ndarray:
        false = slow_mean(part_of(rows, "stance", "sycophancy"), "value", at)
        true = slow_mean(part_of(rows, "stance", "genuine-agreement"), "value", at)
        return np.array([false[f] - true[f] for f in FACTS if subset == "all" or f in KNOWN])

    found = entry(table, DISCRIMINATION, strength=strength, subset=subset)
    assert found["level"]["value"] == pytest.approx(gaps(strength).mean())
    assert found["n"] == found["level"]["n"] == len(gaps(strength))
    if strength:
        assert found["change"]["value"] == pytest.approx((gaps(strength) - gaps(0.0)).mean())
        assert sorted(found["seeds"]) == sorted({name for name, s in ARMS if s == strength})
        held = rows["stance"]
        for name, value in found["seeds"].items():
            only = {"stance": held[held["seed"] == name]}
            false, true = (
                slow_mean(part_of(only, "stance", s), "value", strength) for s in ("sycophancy", "genuine-agreement")
            )
            own = [false[f] - true[f] for f in FACTS if subset == "all" or f in KNOWN]
            assert value == pytest.approx(np.mean(own))
    else:
        assert found["change"] is None
        assert found["seeds"] == {}


def test_facts_asked_about_in_one_way_have_no_discrimination() -> None:
    rows = made_up(hosts=("base",))
    held = rows["stance"]
    one_way = (held["set"] == "genuine-agreement") & held["fact"].isin(FACTS[:5])
    found = entry(table_of({"stance": held[~one_way]}, KNOWN, seed=0), DISCRIMINATION, strength=1.0)
    assert found["n"] == found["change"]["n"] == 15
    lines = {e["line"] for e in table_of({"stance": held[held["set"] == "sycophancy"]}, KNOWN, seed=0)}
    assert lines == {"stance margin, false claims"}


def test_every_entry_is_json_and_stands_once(table: list[Entry]) -> None:
    json.dumps(table, allow_nan=False)
    keys = [(e["line"], e["subset"], e["host"], e["strength"]) for e in table]
    assert len(set(keys)) == len(keys)
    shipped = {line.name for line in LINES if line.table != "answers" and line.set != "true claims"}
    assert {e["line"] for e in table} == {*shipped, DISCRIMINATION}
    assert {(e["host"], e["strength"]) for e in table} == {(h, s) for h in ("base", "host") for s in (-1.0, 0.0, 1.0)}


def test_the_order_of_rows_changes_nothing(rows: Rows, table: list[Entry]) -> None:
    shuffled = {name: held.sample(frac=1, random_state=1) for name, held in rows.items()}
    found = table_of(shuffled, KNOWN, seed=0)
    key = lambda e: (e["line"], e["subset"], e["host"], e["strength"])  # noqa: E731
    for mine, theirs in zip(sorted(found, key=key), sorted(table, key=key), strict=True):
        assert key(mine) == key(theirs)
        assert mine["level"]["value"] == pytest.approx(theirs["level"]["value"])
        assert mine["n"] == theirs["n"]


def test_a_seed_gives_one_table(rows: Rows, table: list[Entry]) -> None:
    assert table_of(rows, KNOWN, seed=0) == table


def test_lines_have_names_of_their_own_and_known_roles() -> None:
    assert len({line.name for line in LINES}) == len(LINES)
    assert {line.role for line in LINES} == {"wanted", "unwanted", "other"}
