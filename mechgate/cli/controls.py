"""Commands on control gates: gates trained as the learned ones are, on something else, or on the same by other means."""

from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import Dtype, Model, Quiet, be_quiet, print_table, say
from mechgate.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Train control gates: the same recipe, tokens and steps, another task.")


@app.command("tasks")
def control_tasks() -> None:
    """What control gates can be trained on, and the variants of the learned gates.

    Example: mechgate controls tasks
    """
    from mechgate.data.tasks import TASKS
    from mechgate.train.controls import CONTROL_TASKS, TRAINABLE
    from mechgate.train.variants import VARIANTS

    cells = [[name, "yes" if name in CONTROL_TASKS else "", TASKS[name]] for name in TRAINABLE]
    print_table("Tasks of control gates", ["task", "by default", "what it is"], cells)
    cells = [[name, variant.what] for name, variant in VARIANTS.items()]
    print_table("Variants of the gates that learn sycophancy", ["variant", "what it does"], cells)


@app.command("train")
def controls_train(
    folder: Annotated[Path, typer.Argument(help="Folder of the gate files.")] = Path("runs/controls"),
    tasks: Annotated[
        str, typer.Option(help="Tasks, with commas (sycophancy too); the default controls if not given.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, with commas: each draws facts, wordings and order.")] = "0,1,2,3,4",
    domain: Annotated[str, typer.Option(help="Shipped domain of the tasks on facts, or all.")] = "medical",
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    granularity: Annotated[str, typer.Option(help="One gate value a z element, head or layer.")] = "element",
    examples: Annotated[int, typer.Option(help="Training examples of sycophancy, which the others match.")] = 180,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 2,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    quiet: Quiet = False,
) -> None:
    """Train every task under every seed; what is in the folder already is kept, and an interrupted run goes on.

    Example: mechgate controls train runs/controls --tasks sycophancy,sign-off,genuine-agreement --seeds 0,1,2
    """
    from mechgate.model.loading import load_model
    from mechgate.train.controls import CONTROL_TASKS, train_family

    be_quiet(quiet)
    found = train_family(
        load_model(model, dtype=dtype),
        folder,
        tasks=[name.strip() for name in tasks.split(",")] if tasks else CONTROL_TASKS,
        seeds=_seeds(seeds),
        domain=None if domain == "all" else domain,
        n=examples,
        epochs=epochs,
        lr=lr,
        form={"granularity": granularity},
        say=(lambda text: None) if quiet else say,
    )
    for member in found:
        print(member.path)


@app.command("variants")
def controls_variants(
    folder: Annotated[Path, typer.Argument(help="Folder of the gate files.")] = Path("runs/controls"),
    names: Annotated[
        str, typer.Option(help="Variants, with commas (`controls tasks` lists them); all if not given.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, with commas: each draws facts, wordings and order.")] = "0,1,2,3,4",
    domain: Annotated[str, typer.Option(help="Shipped domain of the facts, or all.")] = "medical",
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    examples: Annotated[int, typer.Option(help="Training examples.")] = 180,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 2,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    quiet: Quiet = False,
) -> None:
    """Train gates that learn sycophancy by other objectives or in other forms, on the same facts; as `train` does.

    Example: mechgate controls variants runs/controls --names two-sided,static --seeds 0,1,2
    """
    from mechgate.model.loading import load_model
    from mechgate.train.variants import VARIANTS, train_variants

    be_quiet(quiet)
    found = train_variants(
        load_model(model, dtype=dtype),
        folder,
        names=[name.strip() for name in names.split(",")] if names else tuple(VARIANTS),
        seeds=_seeds(seeds),
        domain=None if domain == "all" else domain,
        n=examples,
        epochs=epochs,
        lr=lr,
        say=(lambda text: None) if quiet else say,
    )
    for member in found:
        print(member.path)


def _seeds(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError("seeds must be whole numbers with commas between", got=repr(text)) from error
    if len(set(found)) != len(found):
        raise InputError("a seed is named twice", got=text, do="name each once")
    return found
