"""The command on persona vectors."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import AsJson, Dtype, Model, Quiet, Seed, be_quiet, say
from mechgate.errors import InputError


def personas(
    gates: Annotated[list[Path], typer.Argument(help="Gate files: seeds of one recipe.")],
    control: Annotated[list[Path] | None, typer.Option(help="Control gate files.")] = None,
    host: Annotated[list[Path] | None, typer.Option(help="Adapter folders: hosts that misbehave.")] = None,
    folder: Annotated[Path, typer.Option(help="Run folder; what is in it is reused.")] = Path("runs/personas"),
    traits: Annotated[str, typer.Option(help="Traits, with commas (all that are shipped if not given).")] = "",
    questions: Annotated[int, typer.Option(help="Questions that each trait is extracted from.")] = 20,
    instructions: Annotated[int, typer.Option(help="Pairs of system messages for each.")] = 5,
    tokens: Annotated[int, typer.Option(help="Tokens of each reply.")] = 32,
    steer_layer: Annotated[int | None, typer.Option(help="Layer of the steering check (the middle one).")] = None,
    strength: Annotated[float, typer.Option("--strength", "-s", help="Strength of the gates.")] = -1.0,
    position: Annotated[str, typer.Option(help="Tokens gates are read at: last, mean, claim or response.")] = "last",
    facts: Annotated[int, typer.Option(help="Test facts.")] = 64,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do gates write along persona vectors, or read them? Cosines by layer beside nulls, a steering check, detection.

    Example: mechgate personas gates.safetensors --control unrelated.safetensors --traits sycophancy,humour
    """
    from mechgate.data.traits import TRAITS
    from mechgate.errors import check_choice
    from mechgate.measure.activations import POSITIONS
    from mechgate.model.loading import load_model
    from mechgate.questions.persona_alignment import NAME, persona_alignment
    from mechgate.questions.place import Place
    from mechgate.representation.persona_tables import PersonaSettings
    from mechgate.representation.personas import told

    be_quiet(quiet)
    check_choice("position", position, POSITIONS)
    names = tuple(traits.split(",")) if traits else TRAITS
    for name in names:
        check_choice("traits", name, TRAITS)
    limits = {"questions": (questions, 2, 20), "instructions": (instructions, 1, 5), "tokens": (tokens, 1, 512)}
    for what, (got, least, most) in (limits | {"facts": (facts, 32, 10_000)}).items():
        if not least <= got <= most:
            raise InputError(f"{what} is out of range", got=got, allowed=f"{least} to {most}")
    files = [*gates, *(control or [])]
    if len({path.stem for path in files}) != len(files):
        raise InputError("gate files need different names", got=[path.name for path in files], do="rename a file")
    settings = PersonaSettings(
        traits=names,
        questions=questions,
        instructions=instructions,
        max_new_tokens=tokens,
        steer_layer=steer_layer,
        strength=strength,
        position=position,
        facts=facts,
        seed=seed,
    )
    place = Place(tables=folder, say=(lambda text: None) if quiet or as_json else say)
    numbers = persona_alignment(
        load_model(model, dtype=dtype),
        gates,
        hosts={path.name: load_model(model, dtype=dtype, adapter=path) for path in host or []},
        controls=control or [],
        settings=settings,
        place=place,
    )
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    print("\n".join(told(numbers)))
    print(f"{place.picture(NAME)} (.svg, .json); vectors in {folder}/vectors")
