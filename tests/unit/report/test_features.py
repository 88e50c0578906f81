"""Laws of the feature figure and page: every latent and every arm is drawn, and text from data cannot become markup."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from mechgate.errors import DataError
from mechgate.report import features as module
from mechgate.report.features import draw_features, write_latents

MARK = "false minus true"


def overlap(value: float) -> dict[str, float]:
    return {"value": value, "expected": 0.1, "high": 0.2, "p": 0.01, "draws": 99}


def numbers(
    arms: tuple[str, ...] = ("g-0", "g-1", "row-sign 0", "dampener", "sign-off"), saes: int = 2
) -> dict[str, Any]:
    sets = ("neither", "moved", "marked", "both")
    scatter = [{"latent": k, "moved": k / 9 - 2, "marked": (k % 7) / 5 - 0.5, "set": sets[k % 4]} for k in range(40)]
    table = {
        arm: {
            MARK: {
                "jaccard": overlap(0.3),
                "rank-biased overlap": overlap(0.2),
                "span overlap": None if i else overlap(1),
            }
        }
        for i, arm in enumerate(arms)
    }
    one: dict[str, Any] = {"scatter": scatter, "overlap": table, "marked": {MARK: {}}, "shared": []}
    return {"gates": ["g-0", "g-1"], "saes": {f"sae {k}": one for k in range(saes)}}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure) or [path])
    return figures


def test_every_latent_and_every_arm_is_drawn(kept: list[Any], tmp_path: Path) -> None:
    draw_features(numbers(), tmp_path / "x.png", caption="n")
    axes = kept[0].axes
    assert sum(len(points.get_offsets()) for points in axes[0].collections) == 40
    for panel, drawn in zip(axes[1:], (10, 10, 2), strict=True):
        assert sum(len(points.get_offsets()) for points in panel.collections) == drawn
    assert [text.get_text() for text in axes[1].get_yticklabels()] == ["sae 0", "sae 1"]


def test_an_empty_set_is_said(kept: list[Any], tmp_path: Path) -> None:
    found = numbers(saes=1)
    for arm in found["saes"]["sae 0"]["overlap"].values():
        arm[MARK]["jaccard"] = None
    draw_features(found, tmp_path / "x.png", caption="n")
    assert [text.get_text() for text in kept[0].axes[1].texts] == ["an empty set"]


def test_the_files_are_written_and_the_figure_is_closed(tmp_path: Path) -> None:
    before = plt.get_fignums()
    for path in draw_features(numbers(), tmp_path / "x.png", caption="n"):
        assert path.stat().st_size > 1000
    assert plt.get_fignums() == before
    with pytest.raises(DataError, match="cannot be drawn"):
        draw_features({"saes": {}}, tmp_path / "x.png", caption="n")
    with pytest.raises(DataError, match="cannot be drawn"):
        draw_features(numbers(), tmp_path / "x.png", caption="n", mark="host minus base")


def test_text_of_contexts_is_escaped(tmp_path: Path) -> None:
    found = numbers()
    context = {"before": "<script>alert(1)</script>", "token": "<b>", "after": "&", "activation": 1.5}
    one = {"latent": 7, "moved": -0.5, MARK: 0.25}
    found["saes"]["sae 0"]["shared"] = [{**one, "contexts": [context]}, {**one, "latent": 8, "contexts": []}]
    page = write_latents(found, tmp_path / "x.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<mark>&lt;b&gt;</mark>&amp;" in page
    assert "<td>7</td><td>-0.500</td><td>+0.250</td>" in page
    assert "active in none of the neutral texts" in page
    assert "No latent is in both sets" in write_latents(numbers(), tmp_path / "y.html").read_text()
