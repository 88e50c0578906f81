"""What the verdict weighs beside the axis: rivals at equal dose and tests of damage, from measured rows alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mechgate.referee.draws import SIDES
from mechgate.referee.summary import Spared, changes, rank, rival, spared_abilities
from mechgate.referee.tables import DAMAGING

Rows = Mapping[str, Mapping[str, pd.DataFrame]]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Tests of damage, contrasts with every rival (by kind, "nulls" and "controls", and name), and both as plain JSON
    values in `numbers`."""

    spared: Spared
    contrasts: dict[str, dict[str, dict[str, Any]]]
    numbers: dict[str, Any]

    def to_judge(self) -> dict[str, Any]:
        """The arguments of `stats.selectivity.judge`."""
        estimates = {kind: {n: one["estimate"] for n, one in g.items()} for kind, g in self.contrasts.items()}
        tests: dict[str, Any] = {"spared": self.spared.tests, "underpowered": self.spared.underpowered}
        return {**tests, "blind": self.spared.blind, **estimates}


def weigh(
    learned: pd.DataFrame,
    dosed: Rows,
    start: pd.DataFrame,
    able: pd.DataFrame,
    neutral: pd.DataFrame,
    *,
    strength: float,
    seed: int,
    draws: int = 10_000,
) -> Evidence:
    """Weigh the learned gates against rivals and damage, all at the verdict's `strength`.

    `learned`: rows of both sides on the dose curve's facts; `dosed`: those of every rival at equal dose, by kind
    ("nulls", "controls") and name; `start`: both sides without gates; `able`, `neutral`: items and refusals, and neutral
    texts, as `spared_abilities` takes them. Raises what `rival` and `spared_abilities` raise.
    """
    grids = {side: changes(learned, start, side) for side in SIDES}
    contrasts = {
        kind: {name: rival(learned, rows, start, seed=seed, draws=draws, grids=grids) for name, rows in group.items()}
        for kind, group in dosed.items()
    }
    e, a = (float(grids[side].values.mean()) for side in SIDES)
    direction = 1.0 if strength > 0 else -1.0
    sets = {task: one["sets"] for task, one in contrasts["controls"].items()}
    ranks = {
        "separation": rank(direction * (e - a), {t: [s["wanted"] - s["unwanted"] for s in g] for t, g in sets.items()}),
        "effect": rank(abs(e), {t: [s["wanted"] for s in g] for t, g in sets.items()}),
    }
    spared = spared_abilities(able, neutral, DAMAGING)
    return Evidence(
        spared=spared,
        contrasts=contrasts,
        numbers={
            "equal dose": {kind: _plain(group) for kind, group in contrasts.items()},
            "rank": ranks if sets else None,
            "spared": spared.to_json(),
            "described": spared.described,
        },
    )


def _plain(group: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Contrasts with their estimates as plain JSON values."""
    return {
        name: one | {key: one[key] and one[key].to_json() for key in ("estimate", "effect")}
        for name, one in group.items()
    }
