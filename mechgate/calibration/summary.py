"""From rows of simulations to what can be said of the instrument: error rates, uniformity, coverage, power."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechgate.calibration.verdicts import COVERED, DRAWS
from mechgate.calibration.worlds import Design, World
from mechgate.stats.estimates import exact_share
from mechgate.stats.selectivity import OUTCOMES
from mechgate.stats.uniformity import rate, uniformity

LEVEL = 0.95
NULLS_OF = {
    "p, interaction": ("inert", "unrelated"),
    "p, rank": ("unrelated",),
    "p, perplexity": ("perplexity at margin",),
    "p, four-choice": ("items at margin",),
}
"""The worlds in which the null of each p-value is true."""
EXACT = {("p, interaction", "inert"), ("p, perplexity", "perplexity at margin")}
"""Where the test is exact: sign flips of facts that vary about 0 in all gate sets alike, and a t test of normal values
against a fixed margin. Elsewhere gate sets vary too, the margin is estimated, or the ranks are conservative."""
STEPS = {"p, interaction": 1 / (DRAWS + 1)}


def described_world(world: World, rows: pd.DataFrame) -> dict[str, Any]:
    """One null world as plain JSON values: how often its verdict was `wrong` (against `nominal`), `outcomes`, p-values
    whose null holds there, `coverage` of each interval, and how often a control task was `beaten` by gates like it."""
    n = len(rows)
    found: dict[str, Any] = {
        "what": world.what,
        "n": n,
        "wrong outcomes": sorted(world.wrong),
        "wrong": rate(int(rows["outcome"].isin(world.wrong).sum()), n, nominal=world.nominal).to_json(),
        "outcomes": outcomes(rows),
        "p": {
            test: uniformity(
                rows[test].to_numpy(float), exact=(test, world.name) in EXACT, step=STEPS.get(test)
            ).to_json()
            for test, worlds in NULLS_OF.items()
            if world.name in worlds
        },
        "coverage": {name: _coverage(rows[f"covers, {name}"]) for name in COVERED},
    }
    if world.name == "unrelated":
        tried = int(rows["beaten"].sum())
        found["some control beaten"] = rate(int((rows["beaten"] > 0).sum()), n).to_json() | {"tasks beaten": tried}
    return found


def described_power(tables: Mapping[tuple[Design, float], pd.DataFrame]) -> list[dict[str, Any]]:
    """A point a design and true sigma: the share of every outcome, as plain JSON values."""
    return [
        {"sets": design.sets, "facts": design.facts, "sigma": sigma, "n": len(rows), "outcomes": outcomes(rows)}
        for (design, sigma), rows in tables.items()
    ]


def outcomes(rows: pd.DataFrame) -> dict[str, Any]:
    """The share of each outcome, with its Clopper-Pearson interval."""
    counts = rows["outcome"].value_counts()
    return {name: exact_share(int(counts.get(name, 0)), len(rows)).to_json() for name in OUTCOMES}


def failures(numbers: Mapping[str, Any]) -> list[str]:
    """What is not calibrated, a line each, from the numbers of `described_world` and `described_tests` by name."""
    lines = []
    for name, world in numbers.get("worlds", {}).items():
        wrong = world["wrong"]
        if not wrong["within"]:
            lines.append(f"{name}: the verdict is wrong in {_shown(wrong)}")
        if not world.get("some control beaten", {"within": True})["within"]:
            lines.append(f"{name}: a control is beaten in {_shown(world['some control beaten'])}")
        lines += [f"{name}: {line}" for line in _tests(world["p"])]
        lines += [
            f"{name}: the {LEVEL:.0%} interval of {what} covers the truth in {one['value']:.1%} [{one['low']:.1%}, {one['high']:.1%}]"
            for what, one in world["coverage"].items()
            if one is not None and one["high"] < LEVEL
        ]
    return lines + _tests(numbers.get("tests", {}))


def described_tests(rows: pd.DataFrame, tests: Mapping[str, tuple[bool, float]]) -> dict[str, Any]:
    """Tests of null gates on tiny models as plain JSON values: by name (a column of p-values), whether the test is exact
    and the step of its p-values."""
    return {
        name: uniformity(rows[name].to_numpy(float), exact=exact, step=step).to_json() | {"n": len(rows)}
        for name, (exact, step) in tests.items()
    }


def _tests(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, one in found.items():
        if not one["rejections"]["within"]:
            lines.append(f"{name}: a true null is rejected in {_shown(one['rejections'])}")
        if one["p"] <= 0.05:
            lines.append(
                f"{name}: p-values are not {one['question']} (distance {one['distance']:.3f}, p = {one['p']:.2g})"
            )
    return lines


def _shown(one: Mapping[str, Any]) -> str:
    share = one["share"]
    return f"{share['value']:.1%} [{share['low']:.1%}, {share['high']:.1%}] of {share['n']}, limit {one['limit']:.1%}"


def _coverage(column: pd.Series) -> dict[str, Any] | None:
    covered = column.dropna()
    return exact_share(int(covered.sum()), len(covered)).to_json() if len(covered) else None
