"""The sections of the report: one small function a result, by the result's name, in the order of the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mechgate.errors import DataError
from mechgate.report.sections import behaviour, heads, instrument, representation, verdict
from mechgate.report.sections.parts import NONE, Section, Table, cell, is_estimate

SECTIONS: dict[str, Callable[[dict[str, Any]], Section]] = {
    "selectivity": verdict.selectivity,
    "objectives": behaviour.objectives,
    "transfer": behaviour.transfer,
    "token-roles": behaviour.token_roles,
    "which_heads": heads.which_heads,
    "similarity": representation.similarity,
    "persona_alignment": representation.persona_alignment,
    "sae_overlap": representation.sae_overlap,
    "patching": heads.patching,
    "minimal_heads": heads.minimal_heads,
    "planted_truth": instrument.planted_truth,
    "calibration": instrument.calibration,
    "behaviour_profile": behaviour.behaviour_profile,
    "reversal": behaviour.reversal,
}
"""Known results in the order of the page; others follow by name, as plain sections."""


def ordered(names: list[str]) -> list[str]:
    """Names of results in the order of the page."""
    known = list(SECTIONS)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def section(name: str, result: dict[str, Any], path: Path) -> Section:
    """The section of the result `name`, read from `path`.

    A result that is not known, or whose numbers have another form than this version writes, gets a plain section that
    says so. Raises `DataError`, naming the file, for a selectivity result of another form: there is no report without
    what it is about.
    """
    make = SECTIONS.get(name)
    if make is None:
        return plain(name, result, "This result is not one that the report knows: its top-level numbers are shown.")
    try:
        return make(result)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, StopIteration) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if name == "selectivity":
            raise DataError(f"{path} has not the numbers of a selectivity analysis", got=what) from error
        return plain(
            name,
            result,
            f"This result has another form than this version expects ({what}): its top-level numbers are shown.",
        )


def plain(name: str, result: dict[str, Any], why: str) -> Section:
    """A table of a result's top-level numbers; everything below them is in the result file."""
    numbers = result.get("numbers")
    items = numbers.items() if isinstance(numbers, dict) else [("numbers", numbers)]
    return Section(
        label=name,
        tables=(
            Table(
                caption="Top-level numbers, with intervals where there are any.",
                columns=("Name", "Value"),
                rows=tuple((str(key), _plain_cell(value)) for key, value in items),
            ),
        ),
        caveats=(why,),
        alts={"": f"Figure of the result {name}."},
        primary={str(key): value for key, value in items if is_estimate(value)},
    )


def _plain_cell(value: Any) -> str:
    if is_estimate(value) and isinstance(value["value"], int | float):
        return cell(value, 3)
    if isinstance(value, dict | list):
        return f"{len(value)} {'entries' if len(value) != 1 else 'entry'}, in the result file"
    if isinstance(value, float):
        return f"{value:.4g}"
    return NONE if value is None else str(value)
