"""Laws of the figure of planted truth: it draws what it gets, says what it lacks, and has every kind told apart."""

from pathlib import Path
from typing import Any

import pytest

from mechgate.errors import DataError
from mechgate.report.planted import _KINDS, _LINES, draw_planted


def numbers(kinds: tuple[str, ...] = tuple(_KINDS)) -> dict[str, Any]:
    """Rows of eight methods, one of them without an interval."""
    grid = [i / 10 for i in range(11)]

    def row(i: int) -> dict[str, Any]:
        low = None if i == 3 else 0.1 * i
        return {"n": 4, "auroc": {"value": 0.1 * i + 0.1, "low": low, "high": low and low + 0.2}, "roc": grid}

    return {"rows": {kind: {f"method {i}": row(i) for i in range(8)} for kind in kinds}, "grid": grid}


@pytest.mark.parametrize("kinds", [tuple(_KINDS), ("known circuit",), ("planted gates", "planted hosts, gates")])
def test_any_kinds_of_truth_are_drawn(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    written = draw_planted(numbers(kinds), tmp_path / "x.png", caption="Two\nlines.")
    assert [path.suffix for path in written] == [".png", ".svg"]
    text = written[1].read_text(encoding="utf-8")
    assert all(f"{kind[0].upper()}{kind[1:]} (n = 4)" in text for kind in kinds)
    assert all(f"method {i}" in text for i in range(8))


def test_series_read_in_grey() -> None:
    for series in (_KINDS.values(), _LINES):
        assert len({one[0] for one in series}) == len({one[1] for one in series}) == len(series)


def test_what_is_not_there_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        draw_planted({"rows": {}}, tmp_path / "x.png", caption="")
    with pytest.raises(DataError, match="without a curve"):
        draw_planted(numbers(), tmp_path / "x.png", caption="", curves=["method 9"])
