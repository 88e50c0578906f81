"""`similarity`: what gates do to the representation of unsafe prompts, less what they do to that of safe ones."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mechgate.analysis.geometry import geometry_numbers
from mechgate.analysis.probing import probe_numbers
from mechgate.analysis.similarity import CKA, GROUPS, change_numbers
from mechgate.data.factorial import Factorial
from mechgate.errors import InputError
from mechgate.gates.sources import Source, loaded, named_sources
from mechgate.gates.storage import gates_hash
from mechgate.model.loading import fingerprint, model_info
from mechgate.model.sites import all_sites
from mechgate.report.results import write_result
from mechgate.representation.arms import Arm, Arms
from mechgate.representation.measure import BASE, Bench
from mechgate.representation.settings import SimilaritySettings
from mechgate.stages import Stages, plan_changed, preregister
from mechgate.stats.hierarchical import hierarchical_bootstrap

QUESTION = "Do the gates change how unsafe prompts are represented and leave safe ones as they were? Is knowledge kept?"
FEW_PROMPTS = 200
"""CKA on fewer prompts is reported with a note."""


def similarity(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    controls: Mapping[str, Sequence[Source]] | None = None,
    *,
    settings: SimilaritySettings | None = None,
    designs: Sequence[Factorial] | None = None,
    folder: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compare `model` without gates, with them at each strength, and with null and control gates at equal dose.

    `gates`: one set or several seeds of one recipe (objects or files; with names as a mapping). `controls`: by task,
    gates trained alike on something else. `designs`: matched unsafe and safe prompts; the shipped ones are false and
    true claims, and harmful and aligned responses to the same questions. Reductions are kept in `folder` and reused
    while unchanged; similarity.json and prereg.yaml are written there. Without `folder` nothing is kept.

    Returns plain JSON values: `contrasts`, one for each design and token role with its layers' numbers (see
    `analysis.similarity.change_numbers`, `analysis.geometry.geometry_numbers`, `analysis.probing.probe_numbers`) by
    strength, `layers`, `doses` and `unmatched` rivals. Raises `InputError` for no gates, names used twice, no token role
    that a design has, and designs or layers that do not fit.
    """
    chosen = settings or SimilaritySettings()
    named = named_sources(gates)
    others = {task: named_sources(sets, task) for task, sets in (controls or {}).items()}
    names = [*named, *(name for group in others.values() for name in group)]
    if not named or len(set(names)) != len(names):
        raise InputError("a similarity analysis needs gates, all with names of their own", got=names)
    contrasts = list(chosen.designs() if designs is None else designs)
    places = [(design, p) for design in contrasts for p in chosen.positions if p in design.positions]
    if not places or len({design.name for design in contrasts}) != len(contrasts):
        raise InputError(
            "there is nothing to compare: designs need names of their own and a token role that is asked for",
            got=[(design.name, design.positions) for design in contrasts],
            allowed=list(chosen.positions),
        )
    layers = [site.layer for site in all_sites(model, None if chosen.layers is None else list(chosen.layers))]
    for design in contrasts:
        design.folds(chosen.folds)
    started = time.monotonic()
    with ExitStack() as stack:
        where = folder if folder is not None else stack.enter_context(tempfile.TemporaryDirectory())
        stages = Stages(where, say)
        sets = {name: loaded(source, model) for name, source in named.items()}
        rivals = {task: {n: loaded(s, model) for n, s in group.items()} for task, group in others.items()}
        hashes = {name: gates_hash(one) for name, one in sets.items()}
        hashes |= {name: gates_hash(one) for group in rivals.values() for name, one in group.items()}
        plan = {
            "question": QUESTION,
            "rule": "mechgate.analysis.similarity.judged",
            "model": model_info(model).name,
            "gates": hashes,
            "settings": chosen.model_dump(mode="json"),
        }
        arms = Arms(model, sets, rivals, chosen, stages)
        numbers: dict[str, Any] = {"prereg": preregister(stages.folder, plan), "layers": layers}
        found = arms.all()
        numbers["doses"], numbers["unmatched"] = arms.doses, arms.unmatched
        numbers["tasks"] = {name: task for task, group in rivals.items() for name in group}
        numbers["contrasts"] = [
            _contrast(Bench(model, design, position, chosen, stages), found, chosen) for design, position in places
        ]
        numbers["plan_changed"] = plan_changed(stages.folder)
        numbers["seconds"] = {"all": round(time.monotonic() - started, 1), **stages.seconds}
        if folder is not None:
            write_result(
                stages.folder / "similarity.json",
                question=QUESTION,
                numbers=numbers,
                settings=chosen.model_dump(mode="json"),
                hashes={"gates": hashes, "model": fingerprint(model)},
            )
    return numbers


def _contrast(bench: Bench, arms: Sequence[Arm], settings: SimilaritySettings) -> dict[str, Any]:
    """The numbers of one design at one token role, by strength."""
    design = bench.design
    how: dict[str, Any] = {"seed": settings.seed, "draws": settings.draws}
    base = bench.arrays(BASE)
    n_layers = base["rdm"].shape[0]
    panel = 2 * n_layers // 3  # fixed beforehand: past the middle
    whole: dict[str, Any] = {
        "design": design.name,
        "position": bench.position,
        "facts": len(design.facts),
        "phrasings": len(design.phrasings),
        "domains": sorted(set(design.domains)),
        "prompts": len(design.prompts),
        "panel": panel,
        "notes": [f"CKA on fewer than {FEW_PROMPTS} prompts"] if len(design.prompts) < FEW_PROMPTS else [],
        "strengths": [],
    }
    for s in settings.strengths:
        here = [arm for arm in arms if arm.strength == s]
        kinds = {k: {a.name: bench.arrays(a) for a in here if a.kind == k} for k in ("gates", "null", "control")}
        gates, nulls, controls = kinds["gates"], kinds["null"], kinds["control"]
        entry: dict[str, Any] = {
            "strength": s,
            "changes": change_numbers(design, gates, nulls, controls, margin=settings.margin, **how),
            "geometry": geometry_numbers(design, base, gates, panel=panel),
            "cka": _cka(kinds),
            "probes": probe_numbers(design, base, gates, margin=settings.probe_margin, **how),
            "behaviour": _behaviour(bench, [arm for arm in here if arm.kind == "gates"], how),
        }
        entry["probes"]["rivals"] = {
            kind: {name: one["side"].mean(axis=0).tolist() for name, one in kinds[kind].items()}
            for kind in ("null", "control")
        }
        whole["strengths"].append(entry)
    return whole


def _cka(kinds: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> dict[str, Any]:
    """CKA with the model without gates, by variant, group of prompts and gate set: a list over layers each."""
    return {
        variant: {
            group: {
                kind: {name: one["cka"][i, j].tolist() for name, one in members.items()}
                for kind, members in kinds.items()
            }
            for j, group in enumerate(GROUPS)
        }
        for i, variant in enumerate(CKA)
    }


def _behaviour(bench: Bench, arms: Sequence[Arm], how: Mapping[str, Any]) -> dict[str, Any] | None:
    """The change of the stance margin (nats) on both sides, and its difference; None where there is no stance."""
    before = bench.stance(BASE)
    if before is None:
        return None
    after = [margins for arm in arms if (margins := bench.stance(arm)) is not None]
    grid = (np.stack(after) - before).reshape(len(after), *bench.design.shape)
    base = before.reshape(1, *bench.design.shape)
    found: dict[str, Any] = {}
    for i, side in enumerate(("unsafe", "safe")):
        found[side] = hierarchical_bootstrap(grid[..., i], **how).to_json()
        found[f"{side}, before"] = float(base[..., i].mean())
    found["difference"] = hierarchical_bootstrap(grid[..., 0] - grid[..., 1], **how).to_json()
    return found
