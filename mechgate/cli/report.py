"""`mechgate report`: a run folder's results as one HTML page, alone or beside another run."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Run folder, with results/*.json and figures/.")],
    compare: Annotated[
        Path | None, typer.Option("--compare", "-c", help="Another run folder, whose primary numbers stand beside.")
    ] = None,
) -> None:
    """Write RUN/report.html, one file without scripts and requests, from what is in the folder; prints its path.

    Tidy data of each result is written beside its figures, as RUN/figures/NAME.csv.

    Example: mechgate report runs/study --compare runs/study-seed-1
    """
    from mechgate.report.page import write_report

    print(write_report(run, compare))
