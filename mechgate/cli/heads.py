"""`mechgate heads`: how few heads' gates do what all gates do."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import AsJson, Dtype, Model, Quiet, Seed, Strengths, be_quiet, say, strengths_of
from mechgate.errors import InputError


def heads(
    gates: Annotated[list[Path], typer.Argument(help="Gate files.")],
    folder: Annotated[Path, typer.Option(help="Run folder; what is in it is reused.")] = Path("runs/heads"),
    strength: Strengths = "-1,1",
    facts: Annotated[
        int, typer.Option(help="Facts for the order of heads and as many for the effects; at least 4.")
    ] = 12,
    exact: Annotated[int, typer.Option(help="Random sets measured exactly for each smallest set; at least 19.")] = 40,
    exact_band: Annotated[
        bool, typer.Option("--exact-band", help="Random sets at every size, measured exactly.")
    ] = False,
    knock_in: Annotated[
        bool, typer.Option("--knock-in", help="Also order heads by their exact single effects.")
    ] = False,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """How few heads' gates keep the effect, is that fewer than random heads, and is it direct? Curves, smallest sets, paths.

    Example: mechgate heads gates.safetensors --strength -1
    """
    from mechgate.causality.head_numbers import told
    from mechgate.causality.heads import HeadSettings
    from mechgate.model.loading import load_model
    from mechgate.questions.minimal_heads import NAME, minimal_heads
    from mechgate.questions.place import Place

    be_quiet(quiet)
    if facts < 4 or exact < 19:
        raise InputError("too few facts or random sets", got=f"{facts} and {exact}", allowed="at least 4 and 19")
    if len({path.stem for path in gates}) != len(gates):
        raise InputError("gate files need different names", got=[path.name for path in gates], do="rename one")
    settings = HeadSettings(
        strengths=tuple(strengths_of(strength)),
        dev_facts=facts,
        facts=facts,
        exact=exact,
        exact_band=exact_band,
        knock_in=knock_in,
        seed=seed,
    )
    place = Place(tables=folder, say=(lambda text: None) if quiet or as_json else say)
    numbers = minimal_heads(load_model(model, dtype=dtype), gates, settings=settings, place=place)
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    print("\n".join(told(numbers)))
    print(f"{folder}/{NAME}-*.png (.svg), {NAME}.json")
