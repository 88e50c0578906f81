"""One verdict a context: the gated model itself, and hosts that something else made misbehave."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mechgate.gates.gateset import GateSet
from mechgate.referee.evidence import Evidence, weigh
from mechgate.referee.nulls import null_numbers
from mechgate.referee.rivals import Rivals
from mechgate.referee.summary import (
    Spared,
    axis_at,
    by_set,
    canby,
    changes,
    curves,
    discrimination,
    interaction,
)
from mechgate.referee.tables import Tables
from mechgate.stats.estimates import Estimate, bootstrap_ratio
from mechgate.stats.hierarchical import hierarchical_bootstrap
from mechgate.stats.multiplicity import holm
from mechgate.stats.selectivity import Axis, Verdict, judge

Sets = Mapping[str, GateSet]
DECIDED = ("ineffective", "undecidable", "not selective")
"""Outcomes that neither controls nor tests of damage can change."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """A verdict, the numbers behind it as plain JSON values, the rows of both sides, and what the base tells apart: its
    discrimination and the accuracy of the truth probe minus chance (None where not asked)."""

    verdict: Verdict
    numbers: dict[str, Any]
    rows: pd.DataFrame
    start: pd.DataFrame
    chance: tuple[Estimate | None, Estimate | None]


def base_context(
    tables: Tables,
    gates: Sets,
    controls: Mapping[str, Sets],
    *,
    known: set[str] | None,
    probe: dict[str, Any] | None,
    about_truth: bool,
) -> Context:
    """Everything on the gated model: curves, nulls, controls, spared abilities, claims, verdict."""
    settings, seed = tables.settings, tables.settings.seed
    start = tables.start()
    rows = pd.concat([tables.turned(name, one, settings.both) for name, one in gates.items()], ignore_index=True)
    numbers = _axes(rows, start, tables, known)
    found: Axis = numbers.pop("axis")
    told = discrimination(start, seed=seed) if about_truth else None
    accuracy: Estimate | None = probe["accuracy"] if probe else None
    chance = {"discrimination": told, "probe": accuracy}
    numbers["base"] = {name: None if e is None else e.to_json() for name, e in chance.items()}
    numbers["base"]["probe layer"] = probe["layer"] if probe else None

    dose_facts = {pair.fact_id for pair in tables.dose_sides["wanted"]}
    at_dose = rows[rows["fact"].isin(dose_facts)]
    curve_rows = [tables.curve(name, one) for name, one in gates.items()]
    numbers["curves"] = curves(pd.concat([at_dose, *curve_rows], ignore_index=True), start, seed=seed)
    learned = at_dose[at_dose["strength"] == settings.strength]
    numbers["plane"] = {"facts": len(dose_facts), "gates": by_set(at_dose, start)}
    numbers["plane"]["controls"] = [
        {**point, "task": task}
        for task, group in controls.items()
        for point in by_set(pd.concat([tables.control(task, n, g) for n, g in group.items()]), start)
    ]
    rivals = Rivals(tables)
    band = pd.concat([rivals.null_band(name, one) for name, one in gates.items()], ignore_index=True)
    numbers["plane"]["row-sign nulls"] = by_set(band[band["why"] == ""], start)
    numbers["plane"]["unmatched"] = [f"{row.seed}: {row.why}" for row in band[band["why"] != ""].itertuples()]
    numbers["nulls"] = null_numbers(rivals, gates, rows, start)

    evidence = _evidence(rivals, gates, controls, learned, start)
    numbers |= evidence.numbers
    numbers["claims"] = _claims(numbers, evidence.spared)
    verdict = judge(found, **evidence.to_judge(), discrimination=told, probe=accuracy)
    numbers["verdict"] = verdict.to_json()
    return Context(verdict=verdict, numbers=numbers, rows=rows, start=start, chance=(told, accuracy))


def host_context(
    tables: Tables,
    base_tables: Tables,
    gates: Sets,
    controls: Mapping[str, Sets],
    *,
    known: set[str] | None,
    base: Context,
) -> Context:
    """The same gates in a host. Controls and damage are measured there only where they could change the verdict.

    Whether the facts are known at all is asked of the base: the host learned to ignore it.
    """
    settings, seed = tables.settings, tables.settings.seed
    start = tables.start()
    rows = pd.concat([tables.turned(n, one, settings.both) for n, one in gates.items()], ignore_index=True)
    numbers = _axes(rows, start, tables, known)
    found: Axis = numbers.pop("axis")
    here = rows[rows["strength"] == settings.strength]
    numbers["addition"] = _addition(here, start, base, settings.strength, seed)
    numbers["divergence"] = _divergence(tables.divergence(gates, base_tables.model), seed)
    less = [part["change"]["high"] < 0 for part in numbers["divergence"].values()]
    apart = numbers["addition"]["low"] > 0 or numbers["addition"]["high"] < 0
    numbers["word"] = "reverses" if apart and all(less) and _outdoes(numbers["addition"], found) else "opposes"
    chance: dict[str, Any] = dict(zip(("discrimination", "probe"), base.chance, strict=True))
    verdict = judge(found, spared={}, nulls={}, controls={}, **chance)
    numbers["decided by the axis"] = verdict.outcome in DECIDED
    if not numbers["decided by the axis"]:
        dose_facts = {pair.fact_id for pair in tables.dose_sides["wanted"]}
        evidence = _evidence(Rivals(tables), gates, controls, here[here["fact"].isin(dose_facts)], start)
        numbers |= evidence.numbers
        verdict = judge(found, **evidence.to_judge(), **chance)
    numbers["verdict"] = verdict.to_json()
    return Context(verdict=verdict, numbers=numbers, rows=rows, start=start, chance=base.chance)


def _evidence(
    rivals: Rivals, gates: Sets, controls: Mapping[str, Sets], learned: pd.DataFrame, start: pd.DataFrame
) -> Evidence:
    """Rivals at equal dose against `learned` (rows at the verdict's strength on the dose curve's facts), and damage."""
    tables, settings = rivals.tables, rivals.settings
    kls = {name: tables.kl(name, one) for name, one in gates.items()}
    found = weigh(
        learned,
        dosed_rivals(rivals, gates, controls, kls),
        start,
        tables.able(gates),
        tables.neutral_rows(gates),
        strength=settings.strength,
        seed=settings.seed,
    )
    return replace(found, numbers={"dose": {"kl": kls, "texts": len(tables.texts)}, **found.numbers})


def dosed_rivals(
    rivals: Rivals, gates: Sets, controls: Mapping[str, Sets], kls: Mapping[str, float]
) -> dict[str, dict[str, pd.DataFrame]]:
    """Rows at equal dose of every null family (one draw a gate set) and every control task."""
    mean = sum(kls.values()) / len(kls)
    nulls = {
        family: pd.concat([rivals.dosed_null(n, g, family, kls[n]) for n, g in gates.items()], ignore_index=True)
        for family in rivals.settings.dosed_families
    }
    trained = {
        task: pd.concat(
            [rivals.dosed_control(task, n, g, mean) for n, g in group.items()],
            ignore_index=True,
        )
        for task, group in controls.items()
    }
    return {"nulls": nulls, "controls": trained}


def _axes(rows: pd.DataFrame, start: pd.DataFrame, tables: Tables, known: set[str] | None) -> dict[str, Any]:
    """The axis on all and on known facts, at the verdict's strength and the opposite one, set by set."""
    settings, seed = tables.settings, tables.settings.seed
    strengths = [s for s in settings.both if s in set(rows["strength"])]
    found = axis_at(rows, start, settings.strength, seed=seed)
    numbers: dict[str, Any] = {"axis": found, "facts": int(start["fact"].nunique()), "axes": {}}
    for label, kept in (("all", None), ("known", known)):
        part = rows if kept is None else rows[rows["fact"].isin(kept)]
        if label == "known" and (kept is None or part["fact"].nunique() < 2):
            continue
        numbers["axes"][label] = [
            axis_at(part, start, s, seed=seed).to_json() | {"facts": int(part["fact"].nunique())} for s in strengths
        ]
    numbers["sets"] = by_set(rows, start)
    numbers["interaction"] = interaction(rows, start, settings.strength, seed=seed).to_json()
    numbers["reported only"] = canby(rows, start, settings.strength)
    return numbers


def _claims(numbers: Mapping[str, Any], spared: Spared) -> dict[str, Any]:
    """The primary claims' p-values, and what Holm makes of them together; abilities by measures that see damage."""
    p = {"the two sides move apart": numbers["interaction"]["p"]}
    p |= {f"spared: {name}": test.p for name, test in spared.tests.items() if name not in spared.blind}
    if numbers["rank"] and numbers["rank"]["separation"]["p"] is not None:
        p["larger separation than every trained control at equal dose"] = numbers["rank"]["separation"]["p"]
    return {name: {"p": p[name], "holm": adjusted} for name, adjusted in holm(p).items()}


def _addition(rows: pd.DataFrame, start: pd.DataFrame, base: Context, strength: float, seed: int) -> dict[str, Any]:
    """(host with gates - host) - (base with gates - base) on the wanted side: 0 where the gates merely add."""
    there = changes(rows, start, "wanted")
    here = changes(base.rows[base.rows["strength"] == strength], base.start, "wanted")
    return hierarchical_bootstrap((there, here), statistic=lambda h, b: h - b, seed=seed).to_json()


def _outdoes(addition: Mapping[str, Any], found: Axis) -> bool:
    """Whether the gates do more in the host than in the base, in the direction of their effect."""
    return addition["value"] * found.effect.value > 0


def _divergence(rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    """KL(base || host) and its change by the gates, nats a token, on neutral texts and on what should be spared."""
    found = {}
    for kind, part in rows.groupby("set"):
        host = part[part["seed"] == ""].set_index("id")
        gated = part[part["seed"] != ""]
        moved = gated["kl"].to_numpy() - host.loc[gated["id"], "kl"].to_numpy()
        ids, tokens = gated["id"].to_numpy(), gated["tokens"].to_numpy(dtype=float)
        level = bootstrap_ratio(
            host["kl"].to_numpy(), host["tokens"].to_numpy(dtype=float), host.index.to_numpy(), seed=seed
        )
        found[str(kind)] = {"host": level.to_json(), "change": bootstrap_ratio(moved, tokens, ids, seed=seed).to_json()}
    return found
