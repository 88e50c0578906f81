"""Laws of `mechgate planted`: a whole way with the least of everything, resumed, and bad input as one paragraph."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mechgate.planted import benchmark
from mechgate.report.results import write_result


@pytest.fixture
def least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly trained small models, few claims, and plants that need not take."""
    usual = benchmark.PlantSettings
    few: dict[str, Any] = dict(objectives=("corrected", "base-trained"), examples=16, claims=6, patched=1, epochs=1)
    few |= dict(plant_epochs=1, least=-10.0, apart=-1.0, draws=999)
    monkeypatch.setattr(benchmark, "PlantSettings", lambda **values: usual(**{**values, **few}))
    monkeypatch.setattr(benchmark, "toy_world", partial(benchmark.toy_world, epochs=1))


def test_plants_are_measured_drawn_told_and_reused(mechgate: Any, least: None, tmp_path: Path, reported: Any) -> None:
    asked = ["planted", "--folder", tmp_path, "--bases", "2", "--sizes", "2", "--seeds", "0"]
    done = mechgate(*asked)
    assert done.code == 0, done.err
    for kind in (
        "planted hosts, gates (2 plants)",
        "planted hosts, weights (2",
        "known circuit (2",
        "planted gates (2",
    ):
        assert kind in done.out
    for name in ("planted.png", "planted.svg"):
        assert (tmp_path / name).stat().st_size > 1000
    again = mechgate(*asked, "--json")
    numbers = json.loads(again.out)
    reported(write_result(tmp_path / "planted_truth.json", question="?", numbers=numbers, settings={}, hashes={}))
    rows = numbers["rows"]["planted hosts, weights"]
    assert {"|g − 1|, corrected gates", "patching, base into host", "random order"} <= set(rows)
    assert all(0 <= row["auroc"]["value"] <= 1 for row in rows.values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bases", "1"], "at least two bases"),
        (["--sizes", "two"], "whole numbers"),
        (["--seeds", "0,0"], "named twice"),
        (["--model", "nowhere", "--seeds", "0"], "nowhere"),
    ],
)
def test_bad_input_is_one_paragraph(mechgate: Any, tmp_path: Path, options: list[str], says: str) -> None:
    done = mechgate("planted", "--folder", tmp_path, *options)
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert says in done.err
