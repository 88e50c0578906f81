"""`mechgate planted`: how far methods can be trusted, on planted truth."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import AsJson, Quiet, be_quiet, say
from mechgate.errors import InputError


def planted(
    folder: Annotated[Path, typer.Option(help="Run folder; what is in it is reused.")] = Path("runs/planted"),
    model: Annotated[str, typer.Option(help="small (models trained here), or a model to plant hosts in.")] = "small",
    bases: Annotated[int, typer.Option(help="Small models, each with its plants and a circuit, at least 2.")] = 3,
    plants: Annotated[int, typer.Option(help="Plants in another model than small, at least 2.")] = 3,
    sizes: Annotated[str, typer.Option(help="Heads a plant, with commas.")] = "3,6",
    circuits: Annotated[bool, typer.Option(help="Also train small models with a known circuit.")] = True,
    seeds: Annotated[str, typer.Option(help="Seeds of gates and probes, with commas.")] = "0,1",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Plant behaviour in known heads and see which methods find them: gates, attribution, patching, probes, directions.

    Example: mechgate planted --bases 3
    """
    from mechgate.planted.benchmark import PlantSettings, run_plants
    from mechgate.planted.summary import summarise, told
    from mechgate.report.planted import draw_planted

    be_quiet(quiet)
    if bases < 2 or plants < 2:
        raise InputError("intervals need at least two bases and two plants", got=f"{bases} bases, {plants} plants")
    settings = PlantSettings(
        model=model, bases=bases, plants=plants, circuits=circuits, sizes=_whole(sizes), seeds=_whole(seeds)
    )
    found = run_plants(folder, settings, say=(lambda text: None) if quiet or as_json else say)
    numbers = summarise(found, draws=settings.draws)
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    print("\n".join(told(numbers)))
    caption = f"{model}; {len(found)} plants, {len(settings.seeds)} seed(s) of gates and probes; bars: 95%, hierarchical bootstrap."
    draw_planted(numbers, folder / "planted.png", caption=caption)
    print(f"{folder}/planted.png (.svg)")


def _whole(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError("whole numbers with commas between are asked for", got=repr(text)) from error
    if len(set(found)) != len(found):
        raise InputError("a number is named twice", got=text, do="name each once")
    return found
