"""`mechgate similarity`: what gates do to the representation of unsafe prompts, less what they do to safe ones."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import AsJson, Dtype, Model, Quiet, Seed, be_quiet, say, strengths_of
from mechgate.errors import InputError

app = typer.Typer()


@app.command("similarity")
def similarity_command(
    gates: Annotated[list[Path], typer.Argument(help="Gate files; several are seeds of one recipe.")],
    control: Annotated[
        list[Path] | None,
        typer.Option("--control", "-c", help="Control gates: a file, or a folder of `controls train`; repeatable."),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Run folder; what was measured in it is reused.")] = Path(
        "runs/similarity"
    ),
    figures: Annotated[Path | None, typer.Option(help="Folder of the figures (the run folder if not given).")] = None,
    strengths: Annotated[
        str, typer.Option("--strengths", "-s", help="Strengths, with commas: +1 trained, -1 inverted.")
    ] = "-1,1",
    layers: Annotated[str, typer.Option(help="Layers, with commas; all if not given.")] = "",
    positions: Annotated[
        str, typer.Option(help="Token roles, with commas: last, claim, response, mean.")
    ] = "last,claim,response",
    facts: Annotated[int, typer.Option(help="Facts of the claims' design, evenly over domains.")] = 54,
    phrasings: Annotated[int, typer.Option(help="Wordings that all facts share.")] = 2,
    questions: Annotated[int, typer.Option(help="Questions with a harmful and an aligned response; 0: without.")] = 104,
    nulls: Annotated[str, typer.Option(help="Null families, with commas.")] = "gaussian,static-mean,dampener",
    null_draws: Annotated[int, typer.Option(help="Null gates a gate file and family.")] = 1,
    folds: Annotated[int, typer.Option(help="Folds of disjoint facts.")] = 3,
    permutations: Annotated[int, typer.Option(help="Swaps of sides within facts.")] = 10_000,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do the gates change how unsafe prompts are represented, and leave safe ones? RSA, CKA, probes, and figures.

    Every change on unsafe prompts stands beside that on matched safe ones, and beside what null gates (and, given
    --control, trained control gates) of equal dose do. The same command goes on where it was interrupted.

    Example: mechgate similarity runs/controls/sycophancy-*.safetensors --control runs/controls --strengths -1,1
    """
    from mechgate.model.loading import load_model
    from mechgate.report.similarity import draw_similarity, print_similarity
    from mechgate.representation.settings import settings_of
    from mechgate.representation.similarity import similarity
    from mechgate.train.controls import controls_by_task

    be_quiet(quiet)
    settings = settings_of(
        strengths=tuple(strengths_of(strengths)),
        layers=_numbers(layers),
        positions=_names(positions),
        facts=facts,
        phrasings=phrasings,
        questions=questions,
        null_families=_names(nulls),
        null_draws=null_draws,
        folds=folds,
        permutations=permutations,
        seed=seed,
    )
    speak = (lambda text: None) if quiet or as_json else say
    others = controls_by_task(control or [], gates, speak)
    found = similarity(load_model(model, dtype=dtype), gates, others, settings=settings, folder=folder, say=speak)
    for path in draw_similarity(found, figures or folder, told=f"{model}; "):
        speak(str(path))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_similarity(found, folder)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in _names(text)) or None
    except ValueError as error:
        raise InputError("layers must be whole numbers with commas between", got=repr(text)) from error
