"""Laws of the similarity figures: every curve drawn, every series and n named, nothing computed, nothing left open."""

import copy
import xml.etree.ElementTree as ET
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from rich.console import Console

from mechgate.errors import DataError
from mechgate.report.similarity import draw_similarity, print_similarity

Est = Callable[..., dict[str, Any]]
VARIANTS = ("plain", "z-scored", "without top 1", "without top 3", "without top 5")


@pytest.fixture
def found(est: Est) -> dict[str, Any]:
    """Made-up numbers of one contrast with 8 conditions, 3 layers, one strength."""
    r = np.random.default_rng(0)

    def curve() -> list[float]:
        return r.random(3).tolist()

    def rivals() -> dict[str, Any]:
        return {
            kind: {f"{kind} {i}": {"share": 0.1, "mean": 1.0, "overall": 0.1, "difference": curve()} for i in range(2)}
            for kind in ("null", "control")
        }

    changes = {
        name: {
            "unsafe": curve(),
            "safe": curve(),
            "difference": [est(v) for v in curve()],
            "p": [0.01, 0.5, 1.0],
            "overall": est(0.2) | {"p": 0.02},
            "share": None if name == "beyond" else est(0.3),
            "seeds": {"0": 0.2, "1": 0.3},
            "rivals": rivals(),
            "outcome": "not selective",
            "reason": "a reason",
        }
        for name in ("size", "beyond", "rows")
    }
    model = {"before": curve(), "after": curve(), "partial": {"before": curve(), "after": curve()}}
    cells = [f"{d} / {p} / {s}" for d in ("a", "b") for p in ("p", "q") for s in ("unsafe", "safe")]
    geometry = {
        "cells": cells,
        "models": {d: {"side": copy.deepcopy(model)} for d in ("rdm", "crossnobis")},
        "kept": curve(),
        "ceiling": {"before": [[0.1, 0.9]] * 3, "after": [[0.5, 0.95]] * 3},
        "swap p, all layers": {"before": [0.01, 0.5, 0.5], "after": {"0": [0.5, 0.01, 0.5]}},
        "panels": {"before": r.random(28).tolist(), "after": r.random(28).tolist()},
    }
    gates = {"gates": {"0": [0.9] * 3}, "null": {"n": [0.99] * 3}, "control": {}}
    selectivity = {"facts": {w: {"accuracy": curve(), "control": curve()} for w in ("before", "after")}}
    task = {"before": curve(), "after": curve(), "base": est(0.2), "change": est(0.0), "outcome": "kept"}
    entry = {
        "strength": -1.0,
        "changes": changes,
        "geometry": geometry,
        "cka": {v: {"all": copy.deepcopy(gates)} for v in VARIANTS},
        "probes": {
            "tasks": {"side": task, "side transfer": copy.deepcopy(task)},
            "selectivity": selectivity,
            "rivals": {"null": {"n": curve()}, "control": {}},
        },
        "behaviour": {"unsafe": est(-2.0), "safe": est(-1.5)},
    }
    contrast = {"design": "claims", "position": "last", "facts": 12, "phrasings": 2, "panel": 1, "strengths": [entry]}
    return {"layers": [4, 7, 9], "contrasts": [contrast], "unmatched": {"weak": "too weak"}, "plan_changed": True}


def drawn(numbers: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    before, opened = copy.deepcopy(numbers), plt.get_fignums()
    written = draw_similarity(numbers, folder, told="a model; ")
    assert numbers == before
    assert plt.get_fignums() == opened
    return {path.name: plt.imread(path) for path in written if path.suffix == ".png"}


def test_series_axes_n_and_seeds_are_named(found: dict[str, Any], tmp_path: Path) -> None:
    written = draw_similarity(found, tmp_path, told="a model; ")
    assert [path.name for path in written] == [
        f"similarity-claims-last-{what}{suffix}" for what in ("s-1", "rdms") for suffix in (".png", ".svg")
    ]
    curves, panels = (" ".join(" ".join(ET.parse(p).getroot().itertext()).split()) for p in written[1::2])
    for text in ("a model; claims at last, s = −1", "12 facts", "2 null and 2 control", "gate seeds: 2", "Layer"):
        assert text in curves
    for text in ("Unsafe prompts", "Safe prompts", "Nulls and controls", "Ceiling, gate seeds", "Control task"):
        assert text in curves
    for text in ("No gates", "s = −1", "layer 7", "a / p", "unsafe", "safe", "12 in all", "Squared distance"):
        assert text in panels


@pytest.mark.parametrize(
    "path",
    [
        ("changes", "size", "unsafe"),
        ("changes", "rows", "p"),
        ("geometry", "models", "crossnobis", "side", "after"),
        ("geometry", "models", "crossnobis", "side", "partial", "before"),
        ("geometry", "kept"),
        ("cka", "z-scored", "all", "gates", "0"),
        ("probes", "tasks", "side transfer", "after"),
        ("probes", "selectivity", "facts", "after", "control"),
        ("probes", "rivals", "null", "n"),
    ],
)
def test_every_curve_is_drawn(found: dict[str, Any], tmp_path: Path, path: tuple[str, ...]) -> None:
    plain = drawn(found, tmp_path)["similarity-claims-last-s-1.png"]
    values = found["contrasts"][0]["strengths"][0]
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = [0.04, 0.03, 0.02]
    changed = drawn(found, tmp_path)["similarity-claims-last-s-1.png"]
    assert plain.shape != changed.shape or (plain != changed).any()


def test_panels_share_one_scale_and_show_every_condition(found: dict[str, Any], tmp_path: Path) -> None:
    plain = drawn(found, tmp_path)["similarity-claims-last-rdms.png"]
    found["contrasts"][0]["strengths"][0]["geometry"]["panels"]["after"][27] = 0.0
    assert (plain != drawn(found, tmp_path)["similarity-claims-last-rdms.png"]).any()
    found["contrasts"][0]["strengths"][0]["geometry"]["panels"]["after"].pop()
    with pytest.raises(DataError, match="does not fit"):
        draw_similarity(found, tmp_path)


def test_what_was_not_measured_is_left_out(found: dict[str, Any], tmp_path: Path) -> None:
    entry = found["contrasts"][0]["strengths"][0]
    entry["geometry"]["ceiling"]["after"] = None
    entry["geometry"]["swap p, all layers"] = {"before": None, "after": {}}
    entry["probes"]["selectivity"] = {}
    for change in entry["changes"].values():
        change["rivals"] = {"null": {}, "control": {}}
    assert len(drawn(found, tmp_path)) == 2
    with pytest.raises(DataError, match="no contrasts"):
        draw_similarity({"contrasts": []}, tmp_path)


def test_the_table_tells_outcomes_and_what_could_not_be_matched(found: dict[str, Any], tmp_path: Path) -> None:
    out = StringIO()
    print_similarity(found, tmp_path, Console(file=out, width=140))
    for text in ("claims at last", "not selective", "+0.30 [+0.05, +0.55]", "side probe: kept", "weak: too weak"):
        assert text in out.getvalue()
    assert "unsafe -2.00" in out.getvalue()
    assert "plan was changed" in out.getvalue()
