"""Options that several commands share, and the few things they all do with them."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from mechgate.data.pairs import Example
from mechgate.errors import InputError

Model = Annotated[str, typer.Option(help="Alias (smollm2-135m), hub id, local folder or .gguf file.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Adapter = Annotated[str | None, typer.Option(help="A peft adapter folder to load on the model.")]
Strengths = Annotated[
    str, typer.Option("--strength", "-s", help="Strengths, with commas: +1 trained, 0 no gate, -1 inverted.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress output.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


def examples_of(
    data: Path | None,
    task: str,
    domain: str,
    phrasings: int | None = None,
    answer: Literal["matching", "not_matching"] = "matching",
) -> list[Example]:
    """A user's own chat JSONL, or one of the two answers of a shipped task's training split."""
    from mechgate.data.controls import CONTROLS
    from mechgate.data.readers import read_chat_jsonl
    from mechgate.data.tasks import load_pairs

    if data is not None:
        return read_chat_jsonl(data)
    where = None if domain == "all" or task in CONTROLS else domain
    return [pair.as_example(answer) for pair in load_pairs(task, where, "train", phrasings=phrasings)]


def kept_of(path: Path | None, objective: str, data: Path | None, task: str, domain: str) -> list[Example]:
    """What the gated model must stay near the base on: a user's own chat JSONL or, for the objective contrastive on
    the shipped task sycophancy, what is shipped for that; nothing for an objective that can do without."""
    from mechgate.data.readers import read_chat_jsonl
    from mechgate.data.tasks import kept_examples

    if path is not None:
        return read_chat_jsonl(path)
    if objective != "contrastive":
        return []
    if data is not None or task != "sycophancy":
        raise InputError(
            "the objective contrastive needs conversations to keep",
            got=f"--data {data}" if data is not None else f"--task {task}",
            do="name a chat JSONL with --kept; only the shipped task sycophancy comes with its own",
        )
    return kept_examples(None if domain == "all" else domain)


def opposite_of(
    path: Path | None, objective: str, data: Path | None, task: str, domain: str, phrasings: int | None
) -> list[Example]:
    """The answers that strength -1 is trained towards: a user's own chat JSONL or, for the objective two-sided on a
    shipped task, the other answers of its pairs; nothing for an objective that can do without."""
    if path is None and objective != "two-sided":
        return []
    if path is None and data is not None:
        raise InputError(
            "the objective two-sided needs answers for strength -1",
            got=f"--data {data}",
            do="name a chat JSONL of opposite answers with --opposite",
        )
    return examples_of(path, task, domain, phrasings, "not_matching")


def strengths_of(text: str) -> list[float]:
    """`-1,0,1` as numbers; raises `InputError` for anything that is not a finite number."""
    from mechgate.gates.gate import check_strength

    return [check_strength(part) for part in text.split(",")]


def be_quiet(quiet: bool) -> None:
    """No progress output from here on, if asked for."""
    if quiet:
        os.environ["MECHGATE_QUIET"] = "1"


def say(text: str) -> None:
    """A line about what is going on, on stderr, so that stdout holds results only."""
    print(text, file=sys.stderr, flush=True)


def print_table(title: str, columns: list[str], cells: list[list[str]]) -> None:
    """A plain table on stdout."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for row in cells:
        table.add_row(*row)
    Console().print(table)
