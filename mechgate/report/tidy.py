"""A result's numbers as tidy data: one CSV a result, a row a number, for drawing its figures anew in any tool."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mechgate.report.sections.parts import is_estimate

COLUMNS = ("path", "strength", "value", "low", "high", "level", "n", "method", "p")
_LEFT_OUT = ("seconds", "settings", "prereg")
"""Top-level parts of a result's numbers that no figure shows."""


def tidy(numbers: Any) -> str:
    """The text of a CSV file with `COLUMNS`.

    `path` says where in the result a number stands: keys, with a record in a list named by its texts (a set, a domain, a
    token role; its place where it has none, or where another has the same). `strength` is the gate strength of the record, if it has one. An estimate is
    one row with its interval; a number that is not defined (null) is a row without a value. Texts are left out.
    """
    out = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    if isinstance(numbers, Mapping):
        numbers = {key: value for key, value in numbers.items() if key not in _LEFT_OUT}
    writer.writerows(_rows(numbers, (), ""))
    return out.getvalue()


def _rows(value: Any, path: tuple[str, ...], strength: Any) -> Iterator[dict[str, Any]]:
    where = {"path": " / ".join(path), "strength": strength}
    if isinstance(value, Mapping):
        strength = _strength(value, strength)
        if is_estimate(value):
            yield {**where, "strength": strength} | {
                key: value[key] for key in COLUMNS[2:] if value.get(key) is not None
            }
            value = {key: one for key, one in value.items() if key not in COLUMNS}
        for key, one in value.items():
            if key != "strength" or isinstance(one, Mapping | list):
                yield from _rows(one, (*path, str(key)), strength)
    elif isinstance(value, list):
        known = Counter((_texts(one), _strength(one, strength)) for one in value)
        for place, one in enumerate(value):
            texts = _texts(one)
            alone = texts and known[texts, _strength(one, strength)] == 1
            yield from _rows(one, (*path, texts if alone else f"{texts} {place}".strip()), strength)
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield {**where, "value": "" if value is None else value}


def _texts(record: Any) -> str:
    """What names a record: its texts."""
    if not isinstance(record, Mapping):
        return ""
    return ", ".join(value for key, value in record.items() if isinstance(value, str) and key not in COLUMNS)


def _strength(record: Any, above: Any) -> Any:
    """A record's own gate strength, or that of the record it is in."""
    own = record.get("strength") if isinstance(record, Mapping) else None
    return own if isinstance(own, int | float | str) else above
