"""Laws of result files: what is written is read back equal, is JSON, and says where it came from."""

import json
from pathlib import Path
from typing import Any

import pytest

from mechgate.errors import DataError, StorageError
from mechgate.report.results import RESULT_FORMAT, read_result, write_result


def write(path: Path, numbers: dict[str, Any]) -> Path:
    return write_result(path, question="Why?", numbers=numbers, settings={"seed": 3}, hashes={"data": "abc"})


def test_what_is_written_is_read_back_equal(tmp_path: Path) -> None:
    numbers = {"a": 0.1 + 0.2, "b": [1, None, -0.0, 1e-300], "c": {"s = -1": "é [x]"}, "d": True}
    found = read_result(write(tmp_path / "new" / "results.json", numbers))
    assert found["numbers"] == numbers
    assert (found["question"], found["settings"], found["result_format"]) == ("Why?", {"seed": 3}, RESULT_FORMAT)


def test_a_result_says_where_it_came_from(tmp_path: Path) -> None:
    found = read_result(write(tmp_path / "r.json", {}))["provenance"]
    assert found["data"] == "abc"
    assert {"created", "command", "commit", "versions", "machine"} <= set(found)


def test_the_numbers_of_a_demo_can_be_written(numbers: dict[str, Any], tmp_path: Path) -> None:
    assert read_result(write(tmp_path / "r.json", numbers))["numbers"] == numbers


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_numbers_that_are_none_are_refused_and_keep_the_old_result(bad: float, tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(path, {"x": [{"y": bad}]})
    assert read_result(path)["numbers"] == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"result_format": 1, "numbers": {', "cannot be read"),
        (b"[1]", "no result of this version"),
        (b"{}", "no result of this version"),
        (b'{"result_format": 2}', "no result of this version"),
    ],
)
def test_a_damaged_or_foreign_result_is_an_error(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_result(tmp_path / "r.json")


def test_a_truncated_result_is_an_error(numbers: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", numbers)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="cannot be read"):
            read_result(path)


def test_a_result_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_result(path)


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "file" / "r.json", {})


def test_a_result_is_json_for_everyone(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"x": 1.5})
    assert json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
