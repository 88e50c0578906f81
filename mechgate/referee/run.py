"""`selectivity`: do these gates select, or damp whatever is there? Measured against everything they could be."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from mechgate.analysis.behaviour import Material
from mechgate.analysis.truth_probe import truth_probe
from mechgate.data.facts import domains, split_facts
from mechgate.errors import InputError
from mechgate.gates.sources import Source, loaded, named_sources
from mechgate.gates.storage import gates_hash
from mechgate.measure.knowledge import knowledge
from mechgate.model.loading import fingerprint, model_info
from mechgate.referee.contexts import base_context, host_context
from mechgate.referee.design import SelectivitySettings, check_sides, check_spared, shipped_material
from mechgate.referee.report import QUESTION, SelectivityReport
from mechgate.referee.tables import DAMAGING, Tables
from mechgate.stages import Stages, plan_changed, preregister
from mechgate.stats.estimates import Estimate

BASE = "base"


def selectivity(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    hosts: Mapping[str, Any] | None = None,
    controls: Mapping[str, Sequence[Source]] | None = None,
    *,
    settings: SelectivitySettings | None = None,
    material: Material | None = None,
    folder: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> SelectivityReport:
    """Judge whether gates act on what they are wanted to act on and spare the rest, in `model` and in `hosts`.

    `gates`: one set or several seeds of one recipe (objects or files; with names as a mapping). `hosts`: models of the
    same shape that were made to misbehave by something else, by name. `controls`: by task, gates trained alike on
    something else (`mechgate controls train`). `material`: the axis and what should stay as it was; the default is
    false against true claims (`referee.design.shipped_material`). Only with the default is it asked whether the
    model knows the facts at all, without which nothing can be decided on them.

    Everything measured is kept in `folder` and reused while it is unchanged, so that an interrupted run goes on;
    prereg.yaml there holds the settings and the verdict's rule before anything is measured. Without `folder` nothing is kept.

    Raises `InputError` for no gates, names used twice, sides that do not match and settings that the material cannot
    meet, and what loading gates raises.
    """
    chosen = settings or SelectivitySettings()
    named = named_sources(gates)
    others = {task: named_sources(sets, task) for task, sets in (controls or {}).items()}
    _check_names(named, others)
    places = {BASE: model, **(hosts or {})}
    if not named or len(places) != 1 + len(hosts or {}):
        raise InputError(
            "a selectivity analysis needs gates, and hosts with names of their own",
            got=f"{len(named)} gate sets, hosts {sorted(hosts or {})}",
            do="name no host 'base'",
        )
    stock = material or shipped_material(chosen)
    check_sides(stock.stance)
    check_spared(stock)
    started = time.monotonic()
    with ExitStack() as stack:
        where = folder if folder is not None else stack.enter_context(tempfile.TemporaryDirectory())
        stages = Stages(where, say)
        tables = Tables(model, stock, chosen, stages, BASE)  # before the plan: bad sizes are errors at once
        sets = {name: loaded(source, model) for name, source in named.items()}
        rivals = {task: {name: loaded(s, model) for name, s in group.items()} for task, group in others.items()}
        for host in (hosts or {}).values():
            for one in sets.values():
                one.check_fits(host)
        plan = preregister(stages.folder, _plan(chosen, sets, rivals, list(hosts or {}), model))
        known = _known(tables) if chosen.known and material is None else None
        probe = _probe(tables) if material is None else None
        numbers: dict[str, Any] = {"prereg": plan, "settings": chosen.model_dump(mode="json"), "contexts": {}}
        numbers["plan_changed"] = plan_changed(stages.folder)
        numbers["controls"] = {task: list(group) for task, group in rivals.items()}
        base = base_context(tables, sets, rivals, known=known, probe=probe, about_truth=material is None)
        contexts = {BASE: base}
        for name, host in (hosts or {}).items():
            inside = Tables(host, stock, chosen, stages, name)
            contexts[name] = host_context(inside, tables, sets, rivals, known=known, base=base)
        numbers["contexts"] = {name: context.numbers for name, context in contexts.items()}
        numbers["seconds"] = {"all": round(time.monotonic() - started, 1), **stages.seconds}
        hashes: dict[str, Any] = {"gates": {n: gates_hash(g) for n, g in sets.items()}, "model": fingerprint(model)}
        hashes["hosts"] = {name: fingerprint(host) for name, host in (hosts or {}).items()}
        hashes["sides"] = tables.sides_hash(tables.sides)
        hashes["controls"] = {n: gates_hash(g) for group in rivals.values() for n, g in group.items()}
        report = SelectivityReport(
            verdicts={name: context.verdict for name, context in contexts.items()}, numbers=numbers, hashes=hashes
        )
        if folder is not None:
            report.save(stages.folder / "selectivity.json")
    return report


def _check_names(gates: Mapping[str, Source], controls: Mapping[str, Mapping[str, Source]]) -> None:
    """Raise `InputError` for a task without gates, a name used twice and one that means something else in tables."""
    if empty := [task for task, group in controls.items() if not group]:
        raise InputError("a control task needs gates", got=f"none of {', '.join(empty)}", do="leave the task out")
    names = [*gates, *(name for group in controls.values() for name in group)]
    twice = {name for name, n in Counter(names).items() if n > 1}
    if wrong := sorted(twice | (set(names) & {"", DAMAGING})):
        raise InputError(
            "gates and controls need different names of their own", got=wrong, do="pass a mapping from names to gates"
        )


def _plan(settings: SelectivitySettings, gates: Any, controls: Any, hosts: list[str], model: Any) -> dict[str, Any]:
    return {
        "question": QUESTION,
        "rule": "mechgate.stats.selectivity.judge",
        "model": model_info(model).name,
        "gates": {name: gates_hash(one) for name, one in gates.items()},
        "controls": {task: {name: gates_hash(one) for name, one in group.items()} for task, group in controls.items()},
        "hosts": hosts,
        "settings": settings.model_dump(mode="json"),
    }


def _known(tables: Tables) -> set[str]:
    """The facts that the base itself knows, by neutral questions."""

    def make() -> pd.DataFrame:
        facts = [fact for domain in domains() for fact in split_facts(domain, tables.settings.split)]
        found = knowledge(tables.model, facts)
        return pd.DataFrame({"fact": found.fact_ids, "known": found.known().astype(int), "report": found.margin()})

    table = tables.kept("what the base knows", "knowledge", tables.settings.split, make)
    return set(table.loc[table["known"] == 1, "fact"])


def _probe(tables: Tables) -> dict[str, Any]:
    """The held-out truth probe of the base: accuracy minus chance as an `Estimate`, and where it was read."""

    def make() -> pd.DataFrame:
        found = truth_probe(tables.model, seed=tables.settings.seed)
        return pd.DataFrame([{**found.accuracy.to_json(), "layer": found.layer}])

    row = tables.kept("truth probe", "probe", tables.settings.seed, make).iloc[0]
    names = ("value", "low", "high", "level")
    numbers = {name: float(row[name]) for name in names}
    return {
        "accuracy": Estimate(**numbers, n=int(row["n"]), method=str(row["method"])),
        "layer": int(row["layer"]),
    }
