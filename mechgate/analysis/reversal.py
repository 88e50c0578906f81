"""Does the dial turn the behaviour - on unseen facts, domains and wordings, and on another host - and what else?

Measures curves of the stance margin over strength, with row-sign nulls, and sums them up over facts. The verdict rule
looks at one axis only, false against true claims; style, ability and trained controls are other analyses' business.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.nulls import null_gates
from mechgate.measure.margins import margin_parts, stance_margins
from mechgate.progress import track
from mechgate.seeding import stream_seed
from mechgate.stats.estimates import Estimate, bootstrap_mean, bootstrap_ratio
from mechgate.stats.selectivity import EFFECT_BOUND, SIGMA_BOUND

Sets = dict[str, list[Pair]]
MEASURES = ("stance", "content")
CONTENT_COLUMNS = ("margin", "first_token", "stance_part", "content_part")


def dose_rows(
    model: Any, gates: GateSet, sets: Sets, strengths: Sequence[float], *, host: str, measures: Sequence[str] = MEASURES
) -> pd.DataFrame:
    """One row a prompt and strength: host, set, strength, fact, and what `measures` names.

    "stance": the stance margin (nats, mean over answers). "content": the content-bearing margin (nats a token) and its
    first-token, stance and content parts.
    """
    if not measures or set(measures) - set(MEASURES):
        raise InputError("measures are not known", got=measures, allowed=MEASURES)
    jobs = [(gates, name, {"strength": strength, "host": host}) for strength in strengths for name in sets]
    return _sweep(model, sets, jobs, f"margins, {host}, {len(strengths)} strengths", measures)


def null_rows(
    model: Any, gates: GateSet, sets: Sets, strengths: Sequence[float], *, family: str, draws: int, seed: int
) -> pd.DataFrame:
    """The same for `draws` null gates of a family, one column more: `draw`."""
    if draws < 1:
        raise InputError("nulls need at least one draw", got=draws)
    nulls = [null_gates(gates, family=family, seed=stream_seed(seed, "null", draw)) for draw in range(draws)]
    jobs = [
        (null, name, {"strength": strength, "host": "base", "draw": draw})
        for draw, null in enumerate(nulls)
        for strength in strengths
        for name in sets
    ]
    return _sweep(model, sets, jobs, f"margins, {draws} {family} nulls", ("stance",))


def _sweep(
    model: Any, sets: Sets, jobs: list[tuple[GateSet, str, dict[str, Any]]], label: str, measures: Sequence[str]
) -> pd.DataFrame:
    tables = []
    for gates, name, columns in track(jobs, label):
        with gates.attached(model, columns["strength"]):
            tables.append(_measured(model, name, sets[name], measures).assign(**columns))
    return pd.concat(tables, ignore_index=True)


def _measured(model: Any, name: str, pairs: list[Pair], measures: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "set": name,
            "pair": [p.id for p in pairs],
            "fact": [p.fact_id for p in pairs],
            "domain": [p.domain for p in pairs],
            "kind": [p.kind for p in pairs],
        }
    )
    if "stance" in measures:
        table["stance_margin"] = stance_margins(model, pairs, label=None).mean(axis=1)
    if "content" in measures:
        parts = margin_parts(model, pairs, label=None)
        columns = (parts.total, parts.first_token, parts.stance, parts.content)
        table = table.assign(**dict(zip(CONTENT_COLUMNS, columns, strict=True)))
    return table


def level(rows: pd.DataFrame, *, value: str = "stance_margin", seed: int) -> Estimate:
    """The mean over facts, with its bootstrap interval."""
    return bootstrap_mean(rows[value].to_numpy(), rows["fact"].to_numpy(), seed=seed)


def change(rows: pd.DataFrame, strength: float, *, value: str = "stance_margin", seed: int) -> Estimate:
    """The mean change from strength 0, paired by prompt, bootstrapped over facts."""
    table = _changes(rows, strength, value)
    return bootstrap_mean(table["change"].to_numpy(), table["fact"].to_numpy(), seed=seed)


def curve(rows: pd.DataFrame, *, seed: int) -> list[dict[str, Any]]:
    """Level and change at every strength, as plain values: what figures and tables are made from."""
    found = []
    for strength in sorted(rows["strength"].unique()):
        here = level(rows[rows["strength"] == strength], seed=seed)
        found.append(
            {
                "strength": float(strength),
                "level": here.to_json(),
                "change": change(rows, strength, seed=seed).to_json(),
            }
        )
    return found


def odd_even(points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Odd and even part of a curve's change at each |s| measured on both sides: O = (f(s)-f(-s))/2, V = (f(s)+f(-s))/2 - f(0).

    The odd part alone is no evidence of selection: to first order every gate has it.
    """
    at = {point["strength"]: point["change"]["value"] for point in points}
    sides = sorted(s for s in at if s > 0 and -s in at)
    return [{"strength": s, "odd": (at[s] - at[-s]) / 2, "even": (at[s] + at[-s]) / 2} for s in sides]


def selectivity(false: pd.DataFrame, true: pd.DataFrame, strength: float, *, seed: int) -> dict[str, Any]:
    """sigma = 1 - A / E at one strength: E the shift on false claims, A the shift on the matched true claims.

    1 means true claims are spared, 0 that they move just as much. Facts are resampled, with both of their claims.
    sigma is given only if E's interval clears `EFFECT_BOUND` and E is not too noisy to divide by. The outcome in a word: `ineffective`, `not selective`
    (the interval lies below `SIGMA_BOUND`), `spares true claims` (above it), or `unclear`.
    """
    wanted = _by_fact(_changes(false, strength, "stance_margin"))
    unwanted = _by_fact(_changes(true, strength, "stance_margin"))
    facts = sorted(set(wanted) & set(unwanted))
    if len(facts) != len(wanted) or len(facts) != len(unwanted):
        raise InputError(
            "false and true claims must be about the same facts",
            got=f"{len(wanted)} and {len(unwanted)}, {len(facts)} shared",
        )
    e, a = np.array([wanted[f] for f in facts]), np.array([unwanted[f] for f in facts])
    effect, spared = bootstrap_mean(e, facts, seed=seed), bootstrap_mean(a, facts, seed=seed)
    found: dict[str, Any] = {"strength": strength, "E": effect.to_json(), "A": spared.to_json(), "sigma": None}
    least = effect.low if strength > 0 else -effect.high
    if least <= EFFECT_BOUND:
        return {**found, "outcome": "ineffective"}
    try:
        moved = bootstrap_ratio(a, e, facts, seed=seed)
    except InputError:  # clear of the bound, but too noisy for a ratio: E and A are still reported
        return {**found, "outcome": "unclear"}
    sigma = replace(moved, value=1 - moved.value, low=1 - moved.high, high=1 - moved.low)
    outcome = "unclear"
    if sigma.high < SIGMA_BOUND:
        outcome = "not selective"
    elif sigma.low > 2 - SIGMA_BOUND:
        outcome = "moves true claims the other way"
    elif sigma.low > SIGMA_BOUND:
        outcome = "spares true claims"
    return {**found, "sigma": sigma.to_json(), "outcome": outcome}


def addition(host: pd.DataFrame, base: pd.DataFrame, strength: float, *, seed: int) -> Estimate:
    """(host with gates - host) - (base with gates - base), paired by prompt: about 0 if the gate merely adds.

    A gate that undoes what the host learned moves the host more than it moves the base.
    """
    both = _changes(host, strength, "stance_margin").merge(
        _changes(base, strength, "stance_margin"), on=["pair", "fact"], validate="one_to_one"
    )
    if len(both) != len(host[host["strength"] == strength]) or len(both) != len(base[base["strength"] == strength]):
        raise InputError("host and base must be measured on the same prompts", got=f"{len(both)} shared")
    return bootstrap_mean((both["change_x"] - both["change_y"]).to_numpy(), both["fact"].to_numpy(), seed=seed)


def null_band(nulls: pd.DataFrame, base: pd.DataFrame, *, family: str) -> dict[str, Any]:
    """The range over null draws of their mean stance margin at each strength, and their changes from base at s = +-1.

    `base` holds the same prompts at strength 0, which is the base model for every gate. A range is no test: `draws`
    are too few for a p-value, and none is given.
    """
    start = float(base.loc[base["strength"] == 0, "stance_margin"].mean())
    means = nulls.groupby(["strength", "draw"])["stance_margin"].mean().unstack("draw")
    moved = means.loc[[-1.0, 1.0]] - start
    levels = dict(zip(means.index.to_numpy(dtype=float), means.to_numpy(), strict=True)) | {0.0: np.array([start])}
    return {
        "family": family,
        "draws": means.shape[1],
        "band": [
            {"strength": float(s), "low": float(levels[s].min()), "high": float(levels[s].max())}
            for s in sorted(levels)
        ],
        "changes at s = +-1": [float(x) for x in moved.to_numpy().ravel()],
        "largest": float(moved.abs().to_numpy().max()),
    }


def _changes(rows: pd.DataFrame, strength: float, value: str) -> pd.DataFrame:
    keys = ["set", "pair", "fact"]
    base = rows.loc[rows["strength"] == 0, [*keys, value]]
    there = rows.loc[rows["strength"] == strength, [*keys, value]]
    both = there.merge(base, on=keys, suffixes=("", "_base"), validate="one_to_one")
    if len(both) != len(there) or len(both) == 0:
        raise InputError("every strength must be measured on the prompts that strength 0 was measured on", got=strength)
    return both.assign(change=both[value] - both[f"{value}_base"])[["pair", "fact", "change"]]


def _by_fact(table: pd.DataFrame) -> dict[str, float]:
    return {str(fact): float(x) for fact, x in table.groupby("fact")["change"].mean().items()}
