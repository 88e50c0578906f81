"""Laws of the small figures: every number given is drawn, and what cannot be drawn is one error."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from mechgate.errors import DataError
from mechgate.report import baselines as baselines_module
from mechgate.report import objectives as objectives_module
from mechgate.report import roles as roles_module
from mechgate.report.baselines import draw_baselines
from mechgate.report.objectives import draw_objectives
from mechgate.report.roles import draw_roles

PARTS = ("template", "claim", "post-claim", "response", "all", "all - sum of roles")


def span(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.3, "high": value + 0.2}


def variants(n: int) -> dict[str, Any]:
    """Variants with one axis on all and on known facts, and two seeds each."""
    return {
        f"variant {k}": {
            "axes": {
                subset: [{"strength": -1.0, "effect": span(-k), "side_effect": span(-k / 2)}]
                for subset in ("all", "known")
            },
            "sets": [{"set": s, "strength": t, "wanted": -k, "unwanted": 0.0} for s in "ab" for t in (-1.0, 1.0)],
        }
        for k in range(n)
    }


def effects(sets: tuple[str, ...] = ("False claims", "True claims")) -> list[dict[str, Any]]:
    return [
        {"set": name, "strength": s, "where": part, **span(s * k)}
        for name in sets
        for s in (-1.0, 1.0)
        for k, part in enumerate(PARTS)
    ]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures as they are saved, before they are closed."""
    figures: list[Any] = []

    def keep(figure: Any, path: Path) -> list[Path]:
        figures.append(figure)
        return [path]

    for module in (baselines_module, objectives_module, roles_module):
        monkeypatch.setattr(module, "save_figure", keep)
    return figures


def test_every_variant_is_named_and_has_its_place_in_both_panels(kept: list[Any], tmp_path: Path) -> None:
    draw_objectives(variants(10), tmp_path / "x.png", caption="n")
    for panel in kept[0].axes:
        drawn = {c.get_label(): c.lines[0] for c in panel.containers}
        assert set(drawn) == set(variants(10))
        assert [float(drawn[f"variant {k}"].get_xdata()[0]) for k in range(10)] == [-k for k in range(10)]
        assert [float(drawn[f"variant {k}"].get_ydata()[0]) for k in range(10)] == [-k / 2 for k in range(10)]


def test_every_part_has_a_bar_of_its_height(kept: list[Any], tmp_path: Path) -> None:
    draw_roles(effects(), tmp_path / "x.png", caption="n")
    for panel, s in zip(kept[0].axes, (-1.0, 1.0), strict=True):
        bars = [c for c in panel.containers if hasattr(c, "patches")]
        assert [b.get_label() for b in bars] == ["False claims", "True claims"]
        assert all([p.get_height() for p in b.patches] == [s * k for k in range(6)] for b in bars)


def test_figures_are_written_as_png_and_svg_and_closed(tmp_path: Path) -> None:
    paths = [
        *draw_objectives(variants(2), tmp_path / "a.png", caption="n"),
        *draw_roles(effects(), tmp_path / "b.png", caption="n"),
    ]
    assert [p.name for p in paths] == ["a.png", "a.svg", "b.png", "b.svg"]
    assert all(p.stat().st_size > 1000 for p in paths)
    assert not plt.get_fignums()


def test_what_cannot_be_drawn_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="variants cannot be drawn"):
        draw_objectives(variants(11), tmp_path / "x.png", caption="n")
    for rows in ([], effects(("a", "b", "c"))):
        with pytest.raises(DataError, match="effects cannot be drawn"):
            draw_roles(rows, tmp_path / "x.png", caption="n")
    assert not list(tmp_path.iterdir())
    assert not plt.get_fignums()


def ways(n: int) -> dict[str, Any]:
    """Interventions: the last but one cannot be matched, the last has no KL."""
    found: dict[str, Any] = {
        f"way {k}": {
            "axis": {"effect": span(-2.0), "side_effect": span(-k / 2)},
            "sets": {s: {"wanted": -2.0, "unwanted": -k / 2} for s in "ab"},
            "spared": {
                "four-choice margin": span(-k / 9),
                "perplexity ratio, chat": span(1 + k),
                "KL, chat": None if k == n - 1 else span(k / 5),
            },
        }
        for k in range(n)
    }
    if n > 2:
        found[f"way {n - 2}"] |= {"axis": None}
    return {"ways": found, "wanted": 2.0, "direction": -1}


def test_every_intervention_has_a_row_and_what_is_not_there_is_said(kept: list[Any], tmp_path: Path) -> None:
    draw_baselines(ways(6), tmp_path / "x.png", caption="n", names={"way 0": "Gates"})
    panels = kept[0].axes
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["Gates", *(f"way {k}" for k in range(1, 6))]
    assert [text.get_text() for text in panels[0].texts] == ["cannot be matched"]
    assert [text.get_text() for text in panels[4].texts] == ["not defined"]
    for panel, n in zip(panels, (5, 5, 5, 5, 4), strict=True):
        assert len(panel.containers) == n


@pytest.mark.parametrize("n", [0, 10])
def test_more_interventions_than_marks_and_none_are_errors(n: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be drawn"):
        draw_baselines(ways(n), tmp_path / "x.png", caption="n", names={})
