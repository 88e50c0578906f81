"""Laws of the figure of head sets: every curve and layer is drawn, effects too small to take apart are said."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mechgate.errors import DataError
from mechgate.report import head_sets as module
from mechgate.report.head_sets import draw_head_sets

SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 270]


def estimate(value: float, half: float = 0.1) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half}


def one(slope: float = 1.0, layers: int = 30) -> dict[str, Any]:
    stream = np.random.default_rng(0)
    rise = np.linspace(0, 1, len(SIZES)) ** slope

    def curve(power: float) -> dict[str, Any]:
        return {
            "sizes": SIZES,
            "kept": [estimate(x**power, 0.05) for x in rise],
            "left": [estimate(1 - x**power, 0.05) for x in rise],
        }

    def smallest(k: int) -> dict[str, Any]:
        beside = {
            within: {"exact": stream.normal(mean, 0.08, 40).tolist(), "screen": {"r": 0.97}}
            for within, mean in (("layers", 0.7), ("all", 0.5))
        }
        return {"heads": [[0, 0]] * k, "kept": estimate(0.9, 0.03), "random": beside}

    total, direct = stream.normal(-0.1, 0.1, layers), stream.normal(-0.05, 0.05, layers)
    kinds = {"total": total, "direct": direct, "indirect": total - direct}
    return {
        "curves": {"most gated": curve(1.0), "attribution": curve(0.6), "random 1": curve(2.0), "random 2": curve(2.4)},
        "band": {
            "most gated": {
                within: {
                    "screened": [{"low": x - width, "median": x, "high": x + width} for x in rise],
                    "exact": None,
                }
                for within, width in (("layers", 0.05), ("all", 0.2))
            }
        },
        "smallest": {"most gated": smallest(143), "attribution": smallest(70)},
        "paths": {
            "layers": list(range(layers)),
            "by layer": {kind: [estimate(x, 0.03) for x in values] for kind, values in kinds.items()},
            "all layers": {kind: estimate(float(values.sum())) for kind, values in kinds.items()},
        },
    }


def nothing() -> dict[str, Any]:
    return one() | {"curves": None, "band": None, "smallest": None}


def test_every_curve_and_layer_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: kept.append(figure) or [path])
    draw_head_sets({"-1": one(), "+1": nothing()}, tmp_path / "x.png", caption="n")
    axes = kept[0].axes
    assert len(axes) == 6
    for panel in axes[:2]:
        curves = [line for line in panel.lines if len(line.get_xdata()) == len(SIZES)]
        assert len(curves) == 4
    assert [len(line.get_xdata()) for line in axes[2].lines[1:]] == [30, 30, 30]
    assert {text.get_text() for text in axes[0].texts} == {
        "143",
        "70",
        "Screen's r: the same layers 0.97, any layers 0.97",
    }
    assert all("No effect" in panel.texts[0].get_text() for panel in axes[3:5])
    assert len(axes[5].lines) == 4


@pytest.mark.parametrize(
    ("r", "exact", "drawn"),
    [(0.96, False, "screened"), (1.96, False, None), (0.9, False, None), (0.9, True, "19"), (None, False, None)],
)
def test_a_band_is_drawn_where_it_is_exact_or_its_screen_can_be_trusted(
    r: float | None, exact: bool, drawn: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: kept.append(figure) or [path])
    found = one()
    found["smallest"]["most gated"]["random"]["layers"]["screen"] = (
        None if r is None else {"r": r % 1, "exact minus screened": r // 1}
    )
    band = found["band"]["most gated"]["layers"]
    band["exact"] = [{"low": 0.2, "median": 0.3, "high": 0.4}] * len(SIZES) if exact else None
    draw_head_sets({"-1": found}, tmp_path / "x.png", caption="n")
    bands = [area.get_label() for area in kept[0].axes[0].collections if "same layers: " in str(area.get_label())]
    assert [str(label).split()[-1] for label in bands] == ([] if drawn is None else [drawn])


def test_files_are_written_and_no_strengths_are_an_error(tmp_path: Path) -> None:
    for path in draw_head_sets({"-1": one()}, tmp_path / "x.png", caption="n"):
        assert path.stat().st_size > 1000
    assert not plt.get_fignums()
    with pytest.raises(DataError, match="nothing to draw"):
        draw_head_sets({}, tmp_path / "x.png", caption="n")
