"""Does a gate trained on one domain act in the others? Changes of the stance margin, domain of training x domain of test.

A gate that learned the behaviour should do in other domains what it does in its own; one that learned the domain's
claims should not. Every gate is asked about the same facts, so that own and other training is compared fact by fact.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import stance_margins
from mechgate.stats.grids import Grid, grid_from_rows
from mechgate.stats.hierarchical import hierarchical_bootstrap

KEYS = ["kind", "domain", "fact", "id"]


def margin_rows(model: Any, pairs: Sequence[Pair], gates: GateSet | None = None, strength: float = 0.0) -> pd.DataFrame:
    """Stance margin of each pair's prompt (`value`: nats, mean over the shipped answers), with or without gates.

    Columns: kind (of claim), domain, fact, id, strength, value.
    """
    if gates is None:
        values = stance_margins(model, pairs, label=None)
    else:
        with gates.attached(model, strength):
            values = stance_margins(model, pairs, label=None)
    keys = [(pair.kind, pair.domain, pair.fact_id, pair.id) for pair in pairs]
    return pd.DataFrame(keys, columns=KEYS).assign(strength=strength, value=values.mean(axis=1))


def transfer_numbers(base: pd.DataFrame, gated: pd.DataFrame, *, seed: int = 0, draws: int = 10_000) -> dict[str, Any]:
    """The transfer matrix, as plain JSON values; changes are in nats, from the model without gates.

    `base` are `margin_rows` without gates, `gated` those with gates and two columns more: trained (the domain) and
    seed. Every domain's gates have the same seeds and are asked at the same strengths about the same prompts.

    `cells`: for each kind of claim, strength, trained and tested domain the `change`, an estimate over facts and seeds
    (`hierarchical_bootstrap`), and each seed's mean. `contrasts`: for each kind and strength, the change by gates of the
    facts' `own` domain, the mean change by gates of the `others` on the same facts, `own minus others`, and `share`, others over own
    (None unless own is clear of 0: a share of nothing); over all tested domains ("all"), and for each one.
    The contrast over all is balanced in training and in test domains where every domain is both. It counts only tested
    domains that some gate was trained on, and is left out with fewer than two training domains.

    Raises `InputError` for prompts that the base or some gates were not asked, and what `grid_from_rows` refuses.
    """
    grids = _grids(_changes(base, gated))
    trained, tested = sorted({of for _, _, of, _ in grids}), sorted({on for _, _, _, on in grids})
    cells = []
    for (kind, strength, of, on), grid in grids.items():
        change = hierarchical_bootstrap(grid, seed=seed, draws=draws)
        means = dict(zip(map(str, grid.seeds), grid.values.mean(axis=(1, 2)).tolist(), strict=True))
        names = {"kind": kind, "strength": strength, "trained": of, "tested": on}
        cells.append({**names, "change": change.to_json(), "seeds": means})
    contrasts = []
    for kind, strength in dict.fromkeys((kind, strength) for kind, strength, _, _ in grids):
        both = {
            on: (_joined([grids[kind, strength, on, on]]), _others(grids, kind, strength, on, trained))
            for on in tested
            if on in trained and len(trained) > 1
        }
        if len(both) > 1:
            own, others = (np.concatenate([both[on][k] for on in both], axis=1) for k in (0, 1))
            both = {"all": (own, others), **both}
        contrasts += [
            {"kind": kind, "strength": strength, "tested": on, **_contrast(*values, seed=seed, draws=draws)}
            for on, values in both.items()
        ]
    return {"trained": trained, "tested": tested, "cells": cells, "contrasts": contrasts}


def _changes(base: pd.DataFrame, gated: pd.DataFrame) -> pd.DataFrame:
    if base["id"].duplicated().any():
        raise InputError("the base model was asked the same prompt twice", got=int(base["id"].duplicated().sum()))
    arms = gated.groupby(["trained", "seed", "strength"], sort=True)
    asked = set(base["id"])
    for name, rows in arms:
        if set(rows["id"]) != asked or len(rows) != len(base):
            raise InputError(
                "gates and base model must be asked the same prompts, once each",
                got=f"{len(rows)} rows of {name}, {len(base)} of the base, {len(asked ^ set(rows['id']))} of one only",
            )
    if len({tuple(sorted(set(rows["seed"]))) for _, rows in gated.groupby(["trained", "strength"])}) != 1:
        raise InputError("every domain's gates need the same seeds and strengths")
    before = gated["id"].map(base.set_index("id")["value"])
    return gated.assign(change=gated["value"] - before)


def _grids(rows: pd.DataFrame) -> dict[tuple[str, float, str, str], Grid]:
    groups: Any = rows.groupby(["kind", "strength", "trained", "domain"], sort=True)
    return {
        (str(kind), float(strength), str(of), str(on)): grid_from_rows(
            part["change"], part["seed"].astype(str).tolist(), part["fact"].tolist(), part["id"].tolist()
        )
        for (kind, strength, of, on), part in groups
    }


def _joined(grids: list[Grid]) -> np.ndarray:
    """The mean of grids over the same seeds and prompts: [seeds, facts, phrasings]."""
    if any(grid.names != grids[0].names for grid in grids):
        raise InputError("the domains' gates differ in seeds or prompts")
    return np.mean([grid.values for grid in grids], axis=0)


def _others(grids: dict[Any, Grid], kind: str, strength: float, on: str, trained: list[str]) -> np.ndarray:
    return _joined([grids[kind, strength, of, on] for of in trained if of != on])


def _contrast(own: np.ndarray, others: np.ndarray, *, seed: int, draws: int) -> dict[str, Any]:
    first, second = (hierarchical_bootstrap(one, seed=seed, draws=draws) for one in (own, others))
    difference = hierarchical_bootstrap((own, others), statistic=lambda a, b: a - b, seed=seed, draws=draws)
    found: dict[str, Any] = {
        "own": first.to_json(),
        "others": second.to_json(),
        "own minus others": difference.to_json(),
        "share": None,
    }
    if first.low > 0 or first.high < 0:
        share = hierarchical_bootstrap((others, own), statistic=lambda a, b: a / b, seed=seed, draws=draws)
        found["share"] = share.to_json()
    return found
