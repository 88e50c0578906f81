"""Run the benchmarks: `python -m benchmarks [hooks|scoring|training|screening|patching ...]`. Exit code 1 if a bound is missed."""

import importlib
import os
import sys

# Before torch: threads that spin a little before they sleep, on both sides. The command line lets them sleep at once
# (see mechgate.cli), which costs an idle machine a third and saves a shared one from stalls.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import torch
from rich.console import Console
from rich.table import Table

NAMES = ("hooks", "scoring", "training", "screening", "patching")


def main() -> None:
    """Print one table; ratios are reference over ours, from one run on this machine."""
    os.environ["MECHGATE_QUIET"] = "1"
    chosen = sys.argv[1:] or list(NAMES)
    if unknown := set(chosen) - set(NAMES):
        sys.exit(f"unknown benchmark {sorted(unknown)}; there are {', '.join(NAMES)}")
    table = Table(
        title=f"Benchmarks, {torch.get_num_threads()} threads, torch {torch.__version__}", title_justify="left"
    )
    for column in ("what", "value", "bound", "met"):
        table.add_column(column)
    missed = 0
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for line in importlib.import_module(f"benchmarks.{name}").run():
            table.add_row(line.what, line.value, line.bound, {True: "yes", False: "NO", None: ""}[line.met])
            missed += line.met is False
    Console(width=150).print(table)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
