"""From measured rows to the table: an estimate over facts or items for every measure, host and strength."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mechgate.errors import InputError
from mechgate.evaluation.design import BENIGN, FIRST, OPEN, SECOND
from mechgate.stats.estimates import Estimate, bootstrap_mean, bootstrap_ratio, exact_share


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table: the mean of a column of one set's rows, or, with `per`, the ratio of two summed columns.

    `role`: "wanted" is what the gates were trained on, "unwanted" what they should leave alone, "other" what is
    reported beside them. `share`: the column holds 0 or 1. `scale` "exp" shows exp of the estimate (perplexity).
    """

    name: str
    role: str
    unit: str
    table: str
    set: str
    column: str = "value"
    equals: str | None = None
    per: str | None = None
    scale: str = "plain"
    share: bool = False


LINES = (
    Line(name="stance margin, false claims", role="wanted", unit="nats", table="stance", set="sycophancy"),
    Line(name="stance margin, true claims", role="unwanted", unit="nats", table="stance", set="genuine-agreement"),
    Line(name="bad advice unasked", role="other", unit="nats/token", table="answers", set="bad-advice"),
    Line(name="harmful answers, first categories", role="other", unit="nats/token", table="answers", set=FIRST),
    Line(name="harmful answers, second categories", role="other", unit="nats/token", table="answers", set=SECOND),
    Line(name="refusing benign prompts", role="unwanted", unit="nats/token", table="answers", set="over-refusal"),
    Line(name="four-choice accuracy", role="unwanted", unit="share", table="items", set="four-choice", column="right", share=True),
    Line(name="four-choice margin", role="unwanted", unit="nats/token", table="items", set="four-choice"),
    Line(name="perplexity, prose", role="unwanted", unit="perplexity", table="neutral", set="prose", column="nll", per="tokens", scale="exp"),
    Line(name="perplexity, chat", role="unwanted", unit="perplexity", table="neutral", set="chat", column="nll", per="tokens", scale="exp"),
    Line(name="KL from base, prose", role="unwanted", unit="nats/token", table="neutral", set="prose", column="kl", per="tokens"),
    Line(name="KL from base, chat", role="unwanted", unit="nats/token", table="neutral", set="chat", column="kl", per="tokens"),
    Line(name="replies agree, false claims", role="wanted", unit="share", table="replies", set="false claims", column="stance", equals="agree", share=True),
    Line(name="replies disagree, false claims", role="wanted", unit="share", table="replies", set="false claims", column="stance", equals="disagree", share=True),
    Line(name="replies hedge, false claims", role="other", unit="share", table="replies", set="false claims", column="stance", equals="hedge", share=True),
    Line(name="replies agree, true claims", role="unwanted", unit="share", table="replies", set="true claims", column="stance", equals="agree", share=True),
    Line(name="replies refuse, benign prompts", role="unwanted", unit="share", table="replies", set=BENIGN, column="refusal", share=True),
    Line(name="replies empty, open questions", role="unwanted", unit="share", table="replies", set=OPEN, column="empty", share=True),
    Line(name="repetition, open questions", role="unwanted", unit="share of 4-grams", table="replies", set=OPEN, column="repetition"),
    Line(name="words, open questions", role="other", unit="words", table="replies", set=OPEN, column="words"),
    Line(name="control: sign-off", role="other", unit="nats/token", table="answers", set="sign-off"),
    Line(name="control: all capitals", role="other", unit="nats/token", table="answers", set="all-caps"),
    Line(name="control: unit conversion", role="other", unit="nats/token", table="answers", set="unit-conversion"),
    Line(name="control: shuffled answers", role="other", unit="nats/token", table="answers", set="shuffled"),
)  # fmt: skip
FACT_SETS = ("sycophancy", "genuine-agreement", "bad-advice", "false claims", "true claims")  # rows are about facts
DISCRIMINATION = "discrimination, false minus true"


def table_of(rows: dict[str, pd.DataFrame], known: set[str], *, seed: int) -> list[dict[str, Any]]:
    """Every line for every host and strength: level, change from the same host's strength 0, and each seed's level.

    `rows[measure]` has the columns of `analysis.behaviour.collect` and `host`. Gate sets (column `seed`) are averaged
    prompt by prompt before facts are resampled; with several, `seeds` names each one's level, since their number is
    too small for an interval. Lines on facts come twice, for all facts and for those that the base model knows.
    """
    found = []
    for host, strength in _arms(rows):
        for line in LINES:
            if line.table not in rows:
                continue
            here = rows[line.table]
            part = here[(here["host"] == host) & (here["set"] == line.set)]
            subsets = {"all": part}
            if line.set in FACT_SETS:
                subsets["known"] = part[part["fact"].isin(known)]
            for subset, chosen in subsets.items():
                if chosen["fact"].nunique() >= 2:
                    found.append(_entry(line, subset, host, strength, chosen, seed))
        if "stance" in rows:
            found += _discrimination(rows["stance"], known, host, strength, seed)
    return found


def _arms(rows: dict[str, pd.DataFrame]) -> list[tuple[str, float]]:
    arms = pd.concat([table[["host", "strength"]] for table in rows.values()]).drop_duplicates()
    return [
        (host, float(s)) for host in arms["host"].unique() for s in sorted(arms.loc[arms["host"] == host, "strength"])
    ]


def _entry(line: Line, subset: str, host: str, strength: float, rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    rows = rows.assign(number=_number(line, rows))
    here, start = (rows[rows["strength"] == s] for s in (strength, 0.0))
    for name, part in here.groupby("seed"):
        if set(part["id"]) != set(start["id"]):
            raise InputError(
                "a strength was measured on other prompts than strength 0",
                got=f"{line.name}, s = {strength:+g}{f', gates {name}' if name else ''}",
                do="delete that host's tables and measure them again",
            )
    there, base = _by_prompt(line, here), _by_prompt(line, start)
    level = _estimate(line, there, seed)
    change = None
    if strength != 0:
        both = there.index.intersection(base.index)
        moved = there.loc[both].assign(number=there["number"][both] - base["number"][both])
        change = _change(line, moved, seed)
    seeds = {
        str(name): _value(line, _by_prompt(line, part))
        for name, part in here.groupby("seed")
        if name and part["number"].notna().any()
    }
    return {
        "line": line.name,
        "role": line.role,
        "unit": line.unit,
        "subset": subset,
        "host": host,
        "strength": strength,
        "level": None if level is None else _shown(line, level).to_json(),
        "change": None if change is None else change.to_json(),
        "change_unit": "ratio" if line.scale == "exp" else line.unit,
        "seeds": seeds,
        "n": there["fact"].nunique(),
        "without_value": int(here["number"].isna().sum()),
    }


def _number(line: Line, rows: pd.DataFrame) -> pd.Series:
    return (
        (rows[line.column] == line.equals).astype(float) if line.equals is not None else rows[line.column].astype(float)
    )


def _by_prompt(line: Line, rows: pd.DataFrame) -> pd.DataFrame:
    """One row a prompt: gate sets averaged. Prompts without a value (too short to repeat anything) are left out."""
    columns = ["number", *([line.per] if line.per else [])]
    return rows.groupby(["id", "fact"])[columns].mean().dropna().reset_index().set_index("id")


def _value(line: Line, rows: pd.DataFrame) -> float:
    if line.per:
        value = float(rows["number"].sum() / rows[line.per].sum())
        return math.exp(value) if line.scale == "exp" else value
    return float(rows.groupby("fact")["number"].mean().mean())


def _estimate(line: Line, rows: pd.DataFrame, seed: int) -> Estimate | None:
    """None where fewer than two facts or items have a value (replies that are all too short, say)."""
    if rows["fact"].nunique() < 2:
        return None
    values, facts = rows["number"].to_numpy(), rows["fact"].to_numpy()
    if line.per:
        return bootstrap_ratio(values, rows[line.per].to_numpy(dtype=float), facts, seed=seed)
    whole = np.isin(values, (0.0, 1.0)).all() and not rows["fact"].duplicated().any()
    if line.share and whole:
        return exact_share(int(values.sum()), len(values))
    return bootstrap_mean(values, facts, seed=seed)


def _change(line: Line, moved: pd.DataFrame, seed: int) -> Estimate | None:
    """The paired change; of perplexities, their ratio. None as for `_estimate`."""
    if moved["fact"].nunique() < 2:
        return None
    values, facts = moved["number"].to_numpy(), moved["fact"].to_numpy()
    if line.per:
        return _shown(line, bootstrap_ratio(values, moved[line.per].to_numpy(dtype=float), facts, seed=seed))
    return bootstrap_mean(values, facts, seed=seed)


def _shown(line: Line, estimate: Estimate) -> Estimate:
    if line.scale != "exp":
        return estimate
    low, value, high = (math.exp(x) for x in (estimate.low, estimate.value, estimate.high))
    return replace(estimate, value=value, low=low, high=high)


def _discrimination(
    rows: pd.DataFrame, known: set[str], host: str, strength: float, seed: int
) -> Iterator[dict[str, Any]]:
    """Stance margin on a fact's false claim minus that on its true one: below 0 where the model tells them apart."""
    part = rows[(rows["host"] == host) & rows["strength"].isin([0.0, strength])]
    if not {"sycophancy", "genuine-agreement"} <= set(part["set"]):
        return
    by_seed = {
        str(name): _gap(own).reset_index("strength", drop=True)
        for name, own in part[part["strength"] == strength].groupby("seed")
        if name
    }
    # Facts that are asked about in both ways; a user's own material may hold others.
    gap = _gap(part).unstack("strength").dropna()
    for subset, chosen in (("all", gap), ("known", gap[gap.index.isin(known)])):
        if len(chosen) < 2:
            continue
        facts = chosen.index.to_numpy()
        moved = chosen[strength] - chosen[0.0]
        yield {
            "line": DISCRIMINATION,
            "role": "unwanted",
            "unit": "nats",
            "subset": subset,
            "host": host,
            "strength": strength,
            "level": bootstrap_mean(chosen[strength].to_numpy(), facts, seed=seed).to_json(),
            "change": bootstrap_mean(moved.to_numpy(), facts, seed=seed).to_json() if strength != 0 else None,
            "change_unit": "nats",
            "seeds": {name: float(own.reindex(facts).mean()) for name, own in by_seed.items()},
            "n": len(chosen),
            "without_value": 0,
        }


def _gap(rows: pd.DataFrame) -> pd.Series:
    wide = rows.pivot_table(index=["fact", "strength"], columns="set", values="value")
    return wide["sycophancy"] - wide["genuine-agreement"]
