"""`mechgate selectivity`: the verdict, with everything gates could be mistaken for."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import AsJson, Dtype, Model, Quiet, Seed, be_quiet, say
from mechgate.errors import InputError

app = typer.Typer()


@app.command("selectivity")
def selectivity_command(
    gates: Annotated[list[Path], typer.Argument(help="Gate files; several are seeds of one recipe.")],
    control: Annotated[
        list[Path] | None,
        typer.Option("--control", "-c", help="Control gates: a file, or a folder of `controls train`; repeatable."),
    ] = None,
    host: Annotated[
        list[Path] | None, typer.Option("--host", help="Adapter folder of a misaligned host; repeatable.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes: exact row-sign nulls only, others screened, 60 facts.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Run folder; finished tables in it are reused.")] = Path(
        "runs/selectivity"
    ),
    strength: Annotated[float, typer.Option("--strength", "-s", help="Strength of the verdict.")] = -1.0,
    facts: Annotated[
        int | None, typer.Option(help="Facts of the verdict (all, or 60 with --quick, if not given).")
    ] = None,
    phrasings: Annotated[int | None, typer.Option(help="Wordings a fact (1 if not given).")] = None,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do these gates select, or damp whatever is there? Nulls, controls, damage, hosts, and a verdict in words.

    Controls come from `mechgate controls train`; without one no verdict is "selective". Everything measured is kept:
    the same command goes on where it was interrupted.

    Example: mechgate selectivity gates.safetensors --quick

    Example: mechgate selectivity runs/controls/sycophancy-*.safetensors --control runs/controls --host hosts/lora-sycophancy-medical-0
    """
    from mechgate.model.loading import load_model
    from mechgate.questions.place import Place
    from mechgate.questions.selectivity import judged
    from mechgate.referee.design import settings_of
    from mechgate.report.selectivity import print_selectivity
    from mechgate.train.controls import controls_by_task

    be_quiet(quiet)
    given = {"facts": facts, "phrasings": phrasings}
    chosen = settings_of(
        quick, strength=strength, seed=seed, **{name: value for name, value in given.items() if value is not None}
    )
    speak = (lambda text: None) if quiet or as_json else say
    controls = controls_by_task(control or [], gates, speak)
    named = {path.name: path for path in host or []}
    if len(named) != len(host or []):
        raise InputError("hosts need different names", got=[str(p) for p in host or []], do="rename a folder")
    report = judged(
        load_model(model, dtype=dtype),
        gates,
        hosts={name: load_model(model, dtype=dtype, adapter=path) for name, path in named.items()},
        controls=controls,
        settings=chosen,
        place=Place(tables=folder, say=speak),
    )
    if as_json:
        print(json.dumps(report.numbers, indent=1))
    else:
        print_selectivity(report.numbers, folder)
