"""Doing one step of a study in its run folder: training what is missing, or asking a question."""

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

import mechgate.study.ask as ask
from mechgate.data.readers import read_chat_jsonl
from mechgate.model.loading import load_model
from mechgate.model.sites import shape_of
from mechgate.provenance import atomic_path
from mechgate.questions.place import Place
from mechgate.stages import Stages
from mechgate.study.config import StudyConfig
from mechgate.study.steps import OWN, Step, host_folder
from mechgate.train.controls import CONTROL_TASKS, LEARNED, controls_by_task, train_family
from mechgate.train.families import Job, train_jobs
from mechgate.train.hosts import train_lora_host
from mechgate.train.loop import TrainConfig
from mechgate.train.recipes import RECIPES, recipe_examples
from mechgate.train.sae import train_saes
from mechgate.train.variants import train_variants

Say = Callable[[str], None]


def perform(step: Step, config: StudyConfig, folder: Path, say: Say = print) -> None:
    """Do one step, or find it done. Everything that it needs must be in `folder` already; what it makes is written there.

    Raises what training and the questions raise.
    """
    if step.kind == "question":
        _question(step, config, folder, say)
    elif step.kind == "host":
        _host(step, config, folder, say)
    elif step.kind == "sae":
        model = the_model(config)
        train_saes(model, folder / "saes", seeds=(0, 1), frozen=True, say=say, **sae_options(config, model))
    else:
        _gates(step, config, folder, say)


@lru_cache(maxsize=4)
def _loaded(source: str, dtype: str, adapter: str | None) -> Any:
    return load_model(source, dtype=dtype, adapter=adapter)


def the_model(config: StudyConfig, adapter: Path | None = None) -> Any:
    """The study's model, or a host of it; loaded once a process."""
    return _loaded(config.model, config.dtype, None if adapter is None else str(adapter))


def sae_options(config: StudyConfig, model: Any) -> dict[str, Any]:
    """Layer and size of the study's SAEs: the middle layer, eight latents a dimension, if the config does not say."""
    shape = shape_of(model)
    layer = shape.n_layers // 2 if config.sae_layer is None else config.sae_layer
    return {"layers": [layer], "tokens": config.sae_tokens, "d_sae": 8 * shape.d_model}


def settings_checked(config: StudyConfig) -> None:
    """Raise `InputError` for settings of a question that it would not take: before anything is trained."""
    for name in config.questions:
        ask.Inputs(config=config, folder=Path(), gates=[], controls={}, hosts={}, load=the_model).settings_of(name)


def _gates(step: Step, config: StudyConfig, folder: Path, say: Say) -> list[Path]:
    model = the_model(config)
    recipe: dict[str, Any] = dict(epochs=config.epochs, lr=config.lr, say=say)
    if step.kind == "variant":
        where: dict[str, Any] = dict(domain=step.domain, n=config.examples)
        found = train_variants(model, folder / "gates", names=[step.about], seeds=[step.seed], **where, **recipe)
    elif step.about == OWN:
        assert config.data is not None
        settings = TrainConfig(seed=step.seed, epochs=config.epochs, lr=config.lr)
        job = Job(task=OWN, examples=read_chat_jsonl(config.data), config=settings)
        found = train_jobs(model, folder / "gates", [job], say=say)
    else:
        where = dict(domain=step.domain, n=config.examples)
        found = train_family(model, folder / "gates", tasks=[step.about], seeds=[step.seed], **where, **recipe)
    return [member.path for member in found]


def _host(step: Step, config: StudyConfig, folder: Path, say: Say) -> None:
    target = host_folder(folder, config, step.about)
    if (target / "adapter_config.json").is_file():
        say(f"{step.name}: reused {target}")
        return
    say(f"{step.name} ...")
    broad = RECIPES[step.about].task == "broad"
    examples = recipe_examples(step.about, None if broad else step.domain, config.model)
    checkpoint = target.parent / f"{target.name}.checkpoint"
    settings = TrainConfig(seed=0, epochs=1, lr=2e-4)
    train_lora_host(config.model, examples, settings, target, dtype=config.dtype, checkpoint=checkpoint)
    checkpoint.unlink(missing_ok=True)


def _question(step: Step, config: StudyConfig, folder: Path, say: Say) -> None:
    inputs = gathered(config, folder)
    place = Place(
        tables=folder / "tables" / step.about, results=folder / "results", figures=folder / "figures", say=say
    )
    made_from = [config.model, config.dtype, config.settings.get(step.about, {}), config.preset, inputs.hashes()]
    Stages(folder, say).file(
        step.about, f"results/{step.about}.json", made_from, lambda path: ask.ASK[step.about](inputs, place)
    )
    if tables := sorted(place.tables.rglob("*.csv")):
        whole = pd.concat([pd.read_csv(p).assign(table=p.relative_to(place.tables).as_posix()) for p in tables])
        mixed = dict.fromkeys(whole.select_dtypes(exclude="number").columns, "string")
        with atomic_path(folder / "results" / f"{step.about}.parquet") as temporary:
            whole.astype(mixed).to_parquet(temporary, index=False)


def gathered(config: StudyConfig, folder: Path) -> "ask.Inputs":
    """What questions are asked about, found in the run folder. Raises `InputError` where a training step was left out."""
    quiet: Say = lambda text: None  # noqa: E731
    if config.gates:
        gates = list(config.gates)
    else:
        task = OWN if config.data else LEARNED
        gates = [ask.gate_file(folder, task, seed, config.where if task == LEARNED else None) for seed in config.seeds]
    controls: dict[str, list[Path]] = defaultdict(list)
    for task in (name for name in config.controls if name in CONTROL_TASKS):
        for seed in config.seeds:
            controls[task].append(ask.gate_file(folder, task, seed, config.where))
    own = [Path(name) for name in config.controls if name not in CONTROL_TASKS]
    if own:
        for task, paths in controls_by_task(own, gates, quiet).items():
            controls[task] += paths
    hosts = {
        Path(name).name: host_folder(folder, config, name) if name in RECIPES else Path(name) for name in config.hosts
    }
    return ask.Inputs(config=config, folder=folder, gates=gates, controls=dict(controls), hosts=hosts, load=the_model)
