"""The steps of a study, in an order in which each finds what it needs: gates, hosts and SAEs first, then questions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechgate.study.config import StudyConfig
from mechgate.train.controls import CONTROL_TASKS, LEARNED
from mechgate.train.recipes import RECIPES

OWN = "own-data"
"""The task of gates that are trained on the user's own chats."""
SAE_QUESTION = "sae_overlap"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: its `name`, its `kind` ("gates", "variant", "host", "sae" or "question") and what it is about. Questions come
    after all training; training steps need nothing of each other."""

    name: str
    kind: str
    about: str
    seed: int = 0
    domain: str | None = None


def planned(config: StudyConfig) -> list[Step]:
    """All steps of a study, training before questions."""
    steps: list[Step] = []
    asked = set(config.questions)
    if not config.gates:
        task = OWN if config.data else LEARNED
        steps += [_gates(task, seed, config.where) for seed in config.seeds]
    steps += [
        _gates(task, seed, config.where) for seed in config.seeds for task in config.controls if task in CONTROL_TASKS
    ]
    if "objectives" in asked:
        names = [name for name in config.variants if name != "imitate" or config.gates or config.data]
        steps += [
            Step(name=f"variant {name} {seed}", kind="variant", about=name, seed=seed, domain=config.where)
            for seed in config.seeds
            for name in names
        ]
    if "transfer" in asked:
        had = {(step.about, step.domain, step.seed) for step in steps}
        wanted = [(LEARNED, d, seed) for d in config.transfer_domains for seed in config.seeds[: config.transfer_seeds]]
        steps += [_gates(task, seed, domain) for task, domain, seed in wanted if (task, domain, seed) not in had]
    steps += [
        Step(name=f"host {name}", kind="host", about=name, domain=config.where)
        for name in config.hosts
        if name in RECIPES
    ]
    if SAE_QUESTION in asked:
        steps.append(Step(name="sae", kind="sae", about="saes"))
    return steps + [Step(name=name, kind="question", about=name) for name in config.questions]


def host_folder(folder: Path, config: StudyConfig, recipe: str) -> Path:
    """Where a recipe's adapter is, in a run folder."""
    return folder / "hosts" / f"{recipe}-{config.domain}-0"


def minutes(config: StudyConfig, size: float) -> dict[str, float]:
    """About how many minutes each step takes on 2 CPU cores, for a model of `size` parameters.

    From runs of the default model (134.5 million parameters), in proportion to parameters: a guide to plan by.
    """
    scale = size / 134.5e6
    gate_sets = len(config.gates) or len(config.seeds)
    controls = len(config.controls) * len(config.seeds)
    cost: dict[str, Any] = {
        "gates": config.examples * config.epochs / 360 * 1.0,
        "variant": config.examples * config.epochs / 360 * 2.5,
        "host": 2.0,
        "sae": 35.0 * config.sae_tokens / 400_000,
        "selectivity": 7.0 if config.preset == "quick" else 12.0 * gate_sets + 1.4 * controls,
        "objectives": 2.5 * len(config.variants) * len(config.seeds),
        "transfer": 1.0 * len(config.transfer_domains) * min(config.transfer_seeds, len(config.seeds)),
        "token-roles": 3.0 * gate_sets,
        "which_heads": 6.0 * gate_sets,
        "similarity": 2.0 if config.preset == "quick" else 12.0 * gate_sets,
        "persona_alignment": 10.0 + 3.0 * gate_sets,
        SAE_QUESTION: 10.0 * gate_sets,
        "patching": 3.0 + 2.0 * gate_sets,
        "minimal_heads": 15.0 * gate_sets,
    }
    return {
        step.name: round(scale * cost[step.about if step.kind == "question" else step.kind], 1)
        for step in planned(config)
    }


def _gates(task: str, seed: int, domain: str | None) -> Step:
    return Step(name=f"gates {task} {domain or 'all'} {seed}", kind="gates", about=task, seed=seed, domain=domain)
