"""Result files: what was asked, the numbers, and where they came from, as JSON beside the figure drawn from them."""

import json
from pathlib import Path
from typing import Any

from mechgate.errors import DataError
from mechgate.provenance import provenance, write_json

RESULT_FORMAT = 1


def write_result(
    path: str | Path, *, question: str, numbers: dict[str, Any], settings: dict[str, Any], hashes: dict[str, Any]
) -> Path:
    """Write one result: the question, its numbers, the settings and the hashes of what went in, and the provenance.

    Raises `StorageError` if the disk is full; NaN in `numbers` raises `ValueError` (a result is a number or null).
    """
    whole = {
        "result_format": RESULT_FORMAT,
        "question": question,
        "settings": settings,
        "numbers": numbers,
        "provenance": provenance(**hashes),
    }
    return write_json(path, whole)


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result file; raises `DataError` for one that is missing, damaged, of another format or holds NaN."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError) as error:
        raise DataError(f"the result {path} cannot be read", got=str(error)) from error
    if not isinstance(found, dict) or found.get("result_format") != RESULT_FORMAT:
        raise DataError(f"{path} is no result of this version", allowed=f"result_format {RESULT_FORMAT}")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")
