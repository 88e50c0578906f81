"""The `mechgate` command. Every command says what it does with `--help`; errors are one paragraph and exit code 2."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mechgate.cli import (
    controls,
    data,
    evaluate,
    features,
    gates,
    harness,
    heads,
    hosts,
    patch,
    personas,
    planted,
    report,
    selectivity,
    similarity,
    study,
)
from mechgate.cli.options import AsJson, Quiet, Seed, be_quiet, say
from mechgate.errors import MechgateError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train gates on attention heads, turn them by one dial, and ask what they select.",
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from mechgate import __version__

        print(__version__)
        raise typer.Exit()


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Run folder; finished stages in it are reused.")] = Path("runs/demo"),
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train gates on the default model, turn the dial, and say what came out: table, verdict, figure.

    Example: mechgate demo --folder runs/demo
    """
    from mechgate.demo import DemoSettings, run_demo
    from mechgate.report.terminal import print_demo

    be_quiet(quiet)
    numbers = run_demo(folder, DemoSettings(seed=seed), say=(lambda text: None) if quiet or as_json else say)
    if as_json:
        print(json.dumps(numbers, indent=1))
    else:
        print_demo(numbers, folder)


app.add_typer(gates.app)
app.add_typer(hosts.app, name="host")
app.add_typer(controls.app, name="controls")
app.add_typer(evaluate.app)
app.add_typer(selectivity.app)
app.add_typer(similarity.app)
app.add_typer(features.app, name="sae")
app.command()(features.features)
app.command()(patch.patch)
app.command()(heads.heads)
app.command()(planted.planted)
app.command()(personas.personas)
app.add_typer(study.app, name="study")
app.command()(report.report)
app.add_typer(harness.app)
app.add_typer(data.app, name="data")


@app.command()
def fetch() -> None:
    """Fetch and convert the default model, once; prints its folder.

    Example: mechgate fetch
    """
    from mechgate.model.bundled import default_model_folder

    print(default_model_folder())


def waiting() -> tuple[str, str]:
    """The environment variable that says how OpenMP's threads wait for each other, and its value here.

    On an idle machine they spin a little before they sleep: training is a quarter faster. Where other processes want
    the same cores, spinning threads stall each other, so that they sleep at once.
    """
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("inf")
    return ("GOMP_SPINCOUNT", "2000") if busy < 0.5 * (os.cpu_count() or 1) else ("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Run the command line; mechgate's own errors become one paragraph on stderr and exit code 2."""
    # Before torch is imported: how its threads wait, and no bars and notices of the libraries, which would bury ours.
    # Whoever sets these variables keeps what they set.
    for variable, value in (waiting(), ("TQDM_DISABLE", "1"), ("TRANSFORMERS_VERBOSITY", "error")):
        os.environ.setdefault(variable, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    try:
        app()
    except MechgateError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"mechgate: {error}", markup=False)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:  # typer's answer to Ctrl-C
            print(
                "mechgate: interrupted; the same command goes on from the last finished stage or checkpoint",
                file=sys.stderr,
            )
        raise
