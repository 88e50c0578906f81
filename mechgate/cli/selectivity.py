"""`mechgate selectivity`: the verdict, with everything gates could be mistaken for."""

import json
from collections import defaultdict
from collections.abc import Callable
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
    from mechgate.referee import selectivity
    from mechgate.referee.design import settings_of
    from mechgate.report.selectivity import print_selectivity

    be_quiet(quiet)
    given = {"facts": facts, "phrasings": phrasings}
    chosen = settings_of(
        quick, strength=strength, seed=seed, **{name: value for name, value in given.items() if value is not None}
    )
    speak = (lambda text: None) if quiet or as_json else say
    controls = controls_of(control or [], gates, speak)
    named = {path.name: path for path in host or []}
    if len(named) != len(host or []):
        raise InputError("hosts need different names", got=[str(p) for p in host or []], do="rename a folder")
    base = load_model(model, dtype=dtype)
    report = selectivity(
        base,
        gates,
        {name: load_model(model, dtype=dtype, adapter=path) for name, path in named.items()},
        controls,
        settings=chosen,
        folder=folder,
        say=speak,
    )
    if as_json:
        print(json.dumps(report.numbers, indent=1))
    else:
        print_selectivity(report.numbers, folder)


def controls_of(paths: list[Path], gates: list[Path], speak: Callable[[str], None]) -> dict[str, list[Path]]:
    """Control gate files by the task in their headers; a folder stands for its gate files.

    In a folder, the judged gates themselves and other seeds of their task (that of `controls train`'s learned gates,
    if their files do not say) are left out, and that is said. Raises `InputError` for a folder without controls and for
    a file that does not say what it was trained on.
    """
    from mechgate.gates.storage import read_header
    from mechgate.train.controls import LEARNED

    found: dict[str, list[Path]] = defaultdict(list)
    judged = {path.resolve() for path in gates}
    headers = [read_header(path)["history"] for path in gates if path.suffix == ".safetensors"]
    own = {history["task"] for history in headers if history.get("task")} or {LEARNED}
    for path in paths:
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        left = []
        for file in files:
            task = read_header(file)["history"].get("task")
            if path.is_dir() and (file.resolve() in judged or task in own):
                left.append(file.name)
            elif task is None:
                raise InputError(
                    "a control does not say what it was trained on",
                    got=str(file),
                    do="train controls with mechgate controls train",
                )
            else:
                found[task].append(file)
        if left:
            speak(
                f"{path}: {len(left)} of {len(files)} files are no controls (judged gates, or other {', '.join(sorted(own))} seeds)"
            )
        if len(left) == len(files):
            raise InputError("there are no control gates", got=str(path), do="name files of mechgate controls train")
    return dict(found)
