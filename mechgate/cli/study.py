"""`mechgate study`: one config, every question, a run folder and a report."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mechgate.cli.options import AsJson, Quiet, be_quiet, print_table, say
from mechgate.errors import InputError, StorageError

app = typer.Typer(
    no_args_is_help=True, help="A whole study: trains what is missing, asks every question, writes a report."
)
Config = Annotated[Path | None, typer.Argument(help="A study.yaml (mechgate study init); or give --preset.")]
Preset = Annotated[str, typer.Option(help="quick or full, in place of a config.")]


@app.command("init")
def study_init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("study.yaml"),
    preset: Annotated[str, typer.Option(help="quick or full.")] = "full",
) -> None:
    """Write a commented study.yaml.

    Example: mechgate study init study.yaml --preset quick
    """
    from mechgate.errors import check_choice
    from mechgate.provenance import write_text
    from mechgate.study.config import PRESETS, template

    check_choice("preset", preset, PRESETS)
    if path.exists():
        raise StorageError("there is a file already", got=str(path), do="name another, or remove it")
    write_text(path, template(preset))
    print(f"{path}: edit it, then mechgate study check {path}")


@app.command("check")
def study_check(config: Config = None, preset: Preset = "", as_json: AsJson = False) -> None:
    """Check a config without running it: what it would do, and about how long that takes.

    Times are in proportion to those of the default model on 2 CPU cores.

    Example: mechgate study check study.yaml
    """
    from mechgate.model.loading import load_model
    from mechgate.study.config import QUESTIONS
    from mechgate.study.perform import settings_checked
    from mechgate.study.steps import minutes

    chosen = _config(config, preset)
    settings_checked(chosen)
    model = load_model(chosen.model, dtype=chosen.dtype)
    size = sum(p.numel() for p in model.original_model.parameters())
    cost = minutes(chosen, size)
    memory = (4 * size * 2.5 + 1.5e9) / 2**30
    if as_json:
        print(json.dumps({"config": chosen.dump(), "minutes": cost, "parameters": size, "GiB": round(memory, 1)}))
        return
    training = {name: value for name, value in cost.items() if name not in QUESTIONS}
    cells = [["training", str(len(training)), f"{sum(training.values()):.0f}"]]
    cells += [[name, "1", f"{cost[name]:.0f}"] for name in chosen.questions]
    cells.append(["all", str(len(cost)), f"{sum(cost.values()):.0f}"])
    print_table(f"{chosen.model}, {size / 1e6:.0f} million parameters", ["what", "steps", "minutes, about"], cells)
    print(f"Memory: about {memory:.1f} GiB (fp32). Every question can be interrupted and goes on where it was.")


@app.command("run")
def study_run(
    config: Config = None,
    preset: Preset = "",
    folder: Annotated[Path, typer.Option(help="Run folder; the same command goes on in it.")] = Path("runs/study"),
    executor: Annotated[str, typer.Option(help="serial, processes or ray.")] = "serial",
    workers: Annotated[int | None, typer.Option(help="Processes (one a core if not given).")] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster (a local one if not given).")] = None,
    quiet: Quiet = False,
) -> None:
    """Do what is missing of a study and write its report. Killed at any moment, the same command goes on.

    Example: mechgate study run --preset quick

    Example: mechgate study run study.yaml --folder runs/mine --executor processes
    """
    from mechgate.errors import check_choice
    from mechgate.study.perform import settings_checked
    from mechgate.study.run import EXECUTORS, run_study

    be_quiet(quiet)
    check_choice("executor", executor, EXECUTORS)
    chosen = _config(config, preset)
    settings_checked(chosen)
    options: Any = dict(executor=executor, workers=workers, address=address)
    print(run_study(chosen, folder, say=(lambda text: None) if quiet else say, **options))


def _config(path: Path | None, preset: str) -> Any:
    from mechgate.study.config import StudyConfig, load_config

    if (path is None) == (not preset):
        raise InputError(
            "a study needs a config or a preset, one of them",
            got=f"config {path}, preset {preset or 'none'}",
            do="mechgate study init study.yaml, or --preset quick",
        )
    return StudyConfig.of_preset(preset) if path is None else load_config(path)
