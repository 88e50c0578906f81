"""Two runs side by side: their primary numbers, whether intervals overlap, and which settings differ."""

from collections.abc import Mapping
from typing import Any

from mechgate.report.sections.parts import NONE, Section, Table, cell, is_estimate


def compared(ours: Mapping[str, Section], theirs: Mapping[str, Section], names: tuple[str, str]) -> list[Table]:
    """A table a result that either run has: primary numbers of both runs and whether their intervals overlap.

    `names` are the runs' names. Intervals that overlap do not show that two runs agree, nor that they differ.
    """
    tables = []
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = (side[name].primary if name in side else {} for side in (ours, theirs))
        rows = tuple(
            (
                label,
                _cell(a.get(label)),
                _cell(b.get(label)),
                overlap(a[label], b[label]) if label in a and label in b else "in one run only",
            )
            for label in dict.fromkeys([*a, *b])
        )
        label = (ours.get(name) or theirs[name]).label
        if rows:
            tables.append(
                Table(
                    caption=f"{label}: primary numbers with their intervals.",
                    columns=("Number", *names, "Intervals overlap"),
                    rows=rows,
                )
            )
    return tables


def overlap(a: Any, b: Any) -> str:
    """yes or no for two intervals; same or different for two words; why not else (None: a number that is not defined)."""
    if a is None or b is None:
        return "cannot be told: not defined"
    if isinstance(a, str) and isinstance(b, str):
        return "same" if a == b else "different"
    if isinstance(a, str) or isinstance(b, str) or not (is_estimate(a) and is_estimate(b)):
        return "cannot be told: no interval"
    if None in (a["low"], a["high"], b["low"], b["high"]):
        return "cannot be told: no interval"
    if a.get("level") != b.get("level"):
        return f"cannot be told: levels {a.get('level')} and {b.get('level')}"
    return "yes" if a["low"] <= b["high"] and b["low"] <= a["high"] else "no"


def settings_table(ours: Mapping[str, Any], theirs: Mapping[str, Any], names: tuple[str, str]) -> Table:
    """The settings that differ between two runs, nested ones by their path; as many rows as differences."""
    a, b = _flat(ours), _flat(theirs)
    rows = tuple(
        (key, a.get(key, "not set"), b.get(key, "not set"))
        for key in dict.fromkeys([*a, *b])
        if a.get(key) != b.get(key)
    )
    return Table(caption="Settings that differ.", columns=("Setting", *names), rows=rows, words=3)


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, one in value.items():
            found |= _flat(one, f"{path}.{key}" if path else str(key))
        return found
    if isinstance(value, list | tuple):
        return {path: ", ".join(map(str, value)) or "none"}
    return {path: "none" if value in (None, {}) else str(value)}


def _cell(value: Any) -> str:
    return NONE if value is None else value if isinstance(value, str) else cell(value, 3)
