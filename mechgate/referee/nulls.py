"""Null gates against learned ones: exact clouds, screened p-values where the screen is shown to hold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mechgate.analysis.screening import LEAST_CORRELATION, agreement
from mechgate.gates.gateset import GateSet
from mechgate.gates.nulls import FAMILIES
from mechgate.referee.design import FOR_P
from mechgate.referee.draws import SIDES, TABLED
from mechgate.referee.rivals import LEARNED, Rivals
from mechgate.referee.summary import by_set
from mechgate.stats.permutation import p_from_null

QUANTILES = (0.005, 0.025, 0.25, 0.5, 0.75, 0.975, 0.995)


def null_numbers(
    rivals: Rivals, gates: Mapping[str, GateSet], rows: pd.DataFrame, start: pd.DataFrame
) -> dict[str, Any]:
    """By family: exact changes of both sides, the screen's agreement with them, and p-values of *coherence*.

    The first gate set gets the full number of draws, the others fewer. A p-value is printed from 99 exact draws on, and
    from a screen only where r with as many exact draws of the same family is at least .95.
    """
    s = rivals.settings
    facts = {pair.fact_id for pair in rivals.tables.null_sides["wanted"]}
    at = rows[rows["fact"].isin(facts) & (rows["strength"] == s.strength)]
    own = {point["set"]: point for point in by_set(at, start)}
    base = {side: float(start[(start["set"] == side) & start["fact"].isin(facts)]["value"].mean()) for side in SIDES}
    found: dict[str, Any] = {"facts": len(facts), "learned": list(own.values()), "families": {}}
    for family in [name for name in FAMILIES if name in {*s.families, *s.exact_families}]:
        entry: dict[str, Any] = {
            "what": FAMILIES[family].what,
            "question": "coherence: were the parts learned together?",
        }
        exact: dict[str, pd.DataFrame] = {}
        for k, (name, one) in enumerate(gates.items()):
            # Families computed draw by draw cost most and are no test of their own: the first set's draws are enough.
            if family in s.exact_families and (k == 0 or family in TABLED or not FAMILIES[family].seeded):
                draws = s.exact if k == 0 and family in TABLED else s.exact_others
                exact[name] = rivals.exact(name, one, family, draws)
        entry["exact"] = {name: _exact(table, own[name], base) for name, table in exact.items()}
        first = next(iter(gates))
        if family in s.families and FAMILIES[family].seeded:
            draws = s.screened if family in TABLED else s.recomputed
            table = rivals.screened(first, gates[first], family, draws)
            entry["screened"] = _screened(table, exact.get(first), base)
        found["families"][family] = entry
    return found


def _exact(table: pd.DataFrame, own: Mapping[str, float], base: Mapping[str, float]) -> dict[str, Any]:
    if "why" in table:
        return {"unmatched": str(table["why"].iloc[0])}
    moved = {side: (table[side] - base[side]).to_numpy() for side in SIDES}
    enough = len(table) >= FOR_P
    return {
        "draws": len(table),
        "wanted": moved["wanted"].tolist(),
        "unwanted": moved["unwanted"].tolist(),
        "p": p_from_null(own["wanted"], moved["wanted"]) if enough else None,
    }


def _screened(table: pd.DataFrame, exact: pd.DataFrame | None, base: Mapping[str, float]) -> dict[str, Any]:
    if "why" in table:
        return {"unmatched": str(table["why"].iloc[0])}
    nulls = table[table["draw"] != LEARNED]
    learned = table[table["draw"] == LEARNED].iloc[0]
    found: dict[str, Any] = {
        "draws": len(nulls),
        "learned": {side: float(learned[side]) for side in SIDES},
        "quantiles": {
            side: dict(zip(map(str, QUANTILES), np.quantile(nulls[side], QUANTILES).tolist(), strict=True))
            for side in SIDES
        },
        "agreement": None,
        "p": None,
        "why no p": "no exact draws of this family were made to check the screen with",
    }
    counts, edges = np.histogram(nulls["wanted"], bins=60)
    found["histogram"] = {"counts": counts.tolist(), "edges": edges.tolist()}
    if exact is None or "why" in exact:
        return found
    moved = (exact["wanted"] - base["wanted"]).to_numpy()
    first = exact["wanted_first"].to_numpy()
    if np.ptp(moved) == 0 or np.ptp(first) == 0:
        return found | {"why no p": "the exact draws do not vary"}
    found["agreement"] = agreement(first, moved)
    r = found["agreement"]["r"]
    if len(exact) < FOR_P:
        return found | {"why no p": f"{len(exact)} exact draws are too few to check the screen with"}
    if r < LEAST_CORRELATION:
        return found | {"why no p": f"the screen correlates with {len(exact)} exact draws at r = {r:.3f} only"}
    return found | {"p": p_from_null(float(learned["wanted"]), nulls["wanted"].to_numpy()), "why no p": ""}
