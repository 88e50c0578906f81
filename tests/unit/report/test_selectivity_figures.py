"""Laws of the selectivity figures: each panel holds what the numbers hold, and is written as PNG and SVG."""

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from rich.console import Console

from mechgate.errors import DataError
from mechgate.report import selectivity_figures
from mechgate.report.selectivity import print_selectivity
from mechgate.report.selectivity_figures import draw_dose, draw_nulls, draw_plane

NAMES = ("False claims (wanted)", "True claims (unwanted)")
STRENGTHS = (-2.0, -1.0, 1.0, 2.0)


def estimate(value: float, half: float = 0.3) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "level": 0.95, "n": 9, "method": "m", "p": None}


def point(name: str, strength: float, e: float, a: float, **more: Any) -> dict[str, Any]:
    return {"set": name, "strength": strength, "wanted": e, "unwanted": a, **more}


def side(slope: float) -> dict[str, Any]:
    parts = {"odd": slope, "even": 0.1}
    return {
        "start": estimate(0.5),
        "points": [{"strength": s, "change": estimate(slope * s)} for s in STRENGTHS],
        **{part: [{"strength": s, "part": value * s} for s in (1.0, 2.0)] for part, value in parts.items()},
    }


def rival_of(value: float | None) -> dict[str, Any]:
    if value is None:
        return {"estimate": None, "effect": None, "sets": [], "unmatched": ["a: too weak"]}
    sets = [{"set": "a", "dose": -4.0, "kl": 0.4, "wanted": -1.5, "unwanted": -1.4}]
    return {"estimate": estimate(value), "effect": estimate(value), "sets": sets, "unmatched": []}


def build_context() -> dict[str, Any]:
    """Everything of the gated model, made up."""
    draws = [-0.3 + 0.02 * k for k in range(30)]
    flips = {
        "what": "w",
        "exact": {"a": {"draws": 30, "wanted": draws, "unwanted": draws, "p": 0.03}, "b": {"unmatched": "why"}},
        "screened": {
            "draws": 100,
            "learned": {"wanted": -2.2, "unwanted": -0.4},
            "agreement": {"r": 0.97, "slope": 1.0, "draws": 30},
            "p": 0.02,
            "histogram": {"counts": [20, 60, 20], "edges": [-0.4, -0.2, 0.2, 0.4]},
        },
    }
    single = {"what": "w", "exact": {"a": {"draws": 1, "wanted": [-0.9], "unwanted": [-0.8], "p": None}}}
    lost = {"what": "w", "exact": {"a": {"unmatched": "no"}}, "screened": {"unmatched": "no"}}
    test = {
        "estimate": estimate(0.0),
        "p": 0.01,
        "margin": [None, 0.05],
        "passed": True,
        "n": 40,
        "n_for_80_power": 214,
        "power": 0.1,
    }
    axes = [
        {
            "strength": s,
            "effect": estimate(2 * s),
            "side_effect": estimate(0.4 * s),
            "sigma": estimate(0.8) if s < 0 else None,
            "facts": 9,
        }
        for s in (-1.0, 1.0)
    ]
    return {
        "axes": {"all": axes},
        "curves": {"facts": 5, "wanted": side(2.0), "unwanted": side(0.4)},
        "plane": {
            "facts": 5,
            "gates": [point(n, s, 2 * s, 0.4 * s) for n in "ab" for s in STRENGTHS],
            "controls": [point(f"{t}-0", s, 0.3 * s, 0.2 * s, task=t) for t in ("caps", "oaths") for s in STRENGTHS],
            "row-sign nulls": [point("a", s, 0.05 * s, 0.04 * s) for s in STRENGTHS],
            "unmatched": [],
        },
        "nulls": {
            "facts": 3,
            "learned": [point("a", -1.0, -2.0, -0.4), point("b", -1.0, -2.1, -0.5)],
            "families": {"row-sign": flips, "dampener": single, "haar": lost},
        },
        "equal dose": {
            "nulls": {"row-sign": rival_of(0.5), "haar": rival_of(None)},
            "controls": {"caps": rival_of(0.4), "oaths": rival_of(None)},
        },
        "spared": {
            "four-choice margin": test | {"blind": False, "judged": True},
            "perplexity, chat": test | {"blind": True, "judged": True},
        },
        "verdict": {"outcome": "partly selective", "reasons": ["one [reason]"], "would_change": ["more [facts]"]},
    }


@pytest.fixture
def context() -> dict[str, Any]:
    return build_context()


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The visible panels of every figure that is saved, with what is drawn in them."""
    seen: list[list[Any]] = []
    real = selectivity_figures.save_figure

    def save(figure: Any, path: Path) -> list[Path]:
        seen.append([axes for axes in figure.axes if axes.get_visible()])
        return real(figure, path)

    monkeypatch.setattr(selectivity_figures, "save_figure", save)
    return seen


def dose(context: dict[str, Any], path: Path) -> list[Path]:
    return draw_dose(context, path, names=NAMES, caption="A caption\nof two lines")


def plane(context: dict[str, Any], path: Path) -> list[Path]:
    return draw_plane(context, -1.0, path, names=NAMES, caption="A caption")


def nulls(context: dict[str, Any], path: Path) -> list[Path]:
    return draw_nulls(context["nulls"], path, caption="A caption")


DRAWINGS: dict[str, Callable[[dict[str, Any], Path], list[Path]]] = {"dose": dose, "plane": plane, "nulls": nulls}


@pytest.mark.parametrize("name", DRAWINGS)
def test_png_and_svg_are_written_no_panel_is_empty_and_nothing_is_changed(
    context: dict[str, Any], panels: list[list[Any]], tmp_path: Path, name: str
) -> None:
    before = copy.deepcopy(context)
    written = DRAWINGS[name](context, tmp_path / "figure.png")
    assert [path.suffix for path in written] == [".png", ".svg"]
    assert all(path.stat().st_size > 1000 for path in written)
    assert "A caption" in written[1].read_text(encoding="utf-8")
    assert context == before
    for axes in panels[0]:
        assert axes.has_data()
        assert axes.lines or axes.collections or axes.patches
    assert not plt.get_fignums()


def test_the_dose_panels_hold_the_curves_with_zero_and_every_control(
    context: dict[str, Any], panels: list[list[Any]], tmp_path: Path
) -> None:
    dose(context, tmp_path / "figure.png")
    for axes, name in zip(panels[0][:2], ("wanted", "unwanted"), strict=True):
        (bars,) = axes.containers
        points = [(p["strength"], p["change"]["value"]) for p in context["curves"][name]["points"]]
        assert [tuple(xy) for xy in bars.lines[0].get_xydata()] == sorted([*points, (0.0, 0.0)])
        labels = axes.get_legend_handles_labels()[1]
        assert {"Control: caps", "Control: oaths", "Row-sign nulls, range"} <= set(labels)
        assert axes.get_title(loc="left")[3:] in NAMES
    assert len(panels[0][2].get_legend_handles_labels()[1]) == 4


def test_the_plane_has_each_set_where_its_numbers_are(
    context: dict[str, Any], panels: list[list[Any]], tmp_path: Path
) -> None:
    plane(context, tmp_path / "figure.png")
    left, right = panels[0]
    drawn = {tuple(xy) for part in left.collections for xy in part.get_offsets().tolist()}
    expected = {(p["wanted"], p["unwanted"]) for k in ("gates", "controls") for p in context["plane"][k]}
    at = {(-2.0, -0.4), (-0.3, -0.2)}
    assert at <= drawn
    assert at <= expected
    assert (2.0, 0.4) not in drawn
    assert (-1.5, -1.4) in {tuple(xy) for part in right.collections for xy in part.get_offsets().tolist()}


def test_the_null_panels_say_how_many_draws_and_which_p(
    context: dict[str, Any], panels: list[list[Any]], tmp_path: Path
) -> None:
    nulls(context, tmp_path / "figure.png")
    titles = [axes.get_title(loc="left") for axes in panels[0]]
    assert len(titles) == 2  # what cannot be matched has no panel
    for text in ("row-sign", "30 exact", "r = 0.97", "p = 0.03 exact", "p = 0.02 screened"):
        assert text in titles[0]
    assert titles[1].startswith("dampener")
    assert "p =" not in titles[1]


def test_without_controls_and_bands_the_rest_is_drawn(
    context: dict[str, Any], panels: list[list[Any]], tmp_path: Path
) -> None:
    context["plane"]["controls"] = context["plane"]["row-sign nulls"] = []
    context["equal dose"]["controls"] = {}
    for name, draw in DRAWINGS.items():
        draw(context, tmp_path / f"{name}.png")
    assert [len(seen) for seen in panels] == [3, 2, 2]


def test_no_null_families_are_an_error_and_no_file(context: dict[str, Any], tmp_path: Path) -> None:
    context["nulls"]["families"] = {"haar": context["nulls"]["families"]["haar"]}
    with pytest.raises(DataError):
        nulls(context, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_where_nothing_could_be_matched_the_plane_says_so(context: dict[str, Any], tmp_path: Path) -> None:
    tasks = {point["task"] for point in context["plane"]["controls"]}
    context["equal dose"] = {"nulls": {"row-sign": rival_of(None)}, "controls": {t: rival_of(None) for t in tasks}}
    plane(context, tmp_path / "figure.png")
    assert "could be matched" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def printed(contexts: dict[str, Any], **more: Any) -> str:
    out = Console(file=io.StringIO(), width=200)
    print_selectivity({"contexts": contexts, "seconds": {"all": 9.0}, "plan_changed": False, **more}, Path("f"), out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_the_printed_report_has_every_verdict_reason_family_and_measure(context: dict[str, Any]) -> None:
    host = {"axes": context["axes"], "word": "opposes", "verdict": context["verdict"] | {"outcome": "inconclusive"}}
    text = printed({"base": context, "a-host": host})
    for said in ("base: partly selective", "a-host: inconclusive; gating opposes it"):
        assert said in text
    for said in ("one [reason]", "more [facts]", "row-sign", "haar", "not matched", "not matchable", "+0.80", "214"):
        assert said in text
    assert "uninformative" in text
    assert "spared" in text
    assert "prereg-" not in text
    assert "prereg-" in printed({"base": context}, plan_changed=True)
