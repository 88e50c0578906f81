"""Laws of the causal figure: every head is drawn, and numbers without what it needs are an error."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mechgate.errors import DataError
from mechgate.report import causal as module
from mechgate.report.causal import draw_causal


def numbers(sets: int = 2, shape: tuple[int, int] = (30, 9)) -> dict[str, Any]:
    stream = np.random.default_rng(0)
    values = stream.standard_normal(shape)
    one = {"values": values.tolist(), "p": (stream.random(shape) ** 0.3).tolist()}
    found = {"value": 0.2, "p, layers": 0.04, "p, all": 0.01}
    names = [f"g-{k}" for k in range(sets)]
    return {
        "patches": {"true into false": one},
        "knocked": dict.fromkeys(names, one),
        "size": {name: np.abs(values).tolist() for name in names},
        "targeting": {name: {"true into false": {"spearman": found}} for name in names},
    }


def test_every_head_is_in_the_scatter_and_in_each_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: kept.append(figure) or [path])
    draw_causal(numbers(), tmp_path / "x.png", caption="n")
    axes = [ax for ax in kept[0].axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left")[0] for ax in axes] == ["a", "b", "c", "d"]
    assert len(axes[3].collections[0].get_offsets()) == 270
    assert axes[3].texts[0].get_text().count("+0.20 (p 0.04)") == 2


def test_files_are_written_and_what_is_missing_is_an_error(tmp_path: Path) -> None:
    for path in draw_causal(numbers(1), tmp_path / "x.png", caption="n"):
        assert path.stat().st_size > 1000
    assert not plt.get_fignums()
    for wrong in ({}, numbers() | {"size": {}}):
        with pytest.raises(DataError, match="cannot be drawn"):
            draw_causal(wrong, tmp_path / "x.png", caption="n")
