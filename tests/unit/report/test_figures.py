"""Laws of figures: whole files in both formats, only of complete numbers, and of nothing but the numbers."""

import copy
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mechgate.errors import MechgateError, StorageError
from mechgate.report.figures import NULL_COLOUR, SERIES, draw_reversal


def texts(svg: Path) -> str:
    """All text of an SVG figure, on one line."""
    return " ".join(" ".join(ET.parse(svg).getroot().itertext()).split())


def test_the_figure_is_written_as_png_and_svg(numbers: dict[str, Any], tmp_path: Path) -> None:
    written = draw_reversal(numbers, tmp_path / "new" / "reversal.png", caption="A caption.")
    assert [p.name for p in written] == ["reversal.png", "reversal.svg"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["reversal.png", "reversal.svg"]
    image = plt.imread(written[0])
    assert image.shape[0] > 600
    assert image.shape[1] > 1500
    assert len(np.unique(image[..., 0])) > 20


def test_every_series_both_axes_and_the_caption_are_named(numbers: dict[str, Any], tmp_path: Path) -> None:
    shown = texts(draw_reversal(numbers, tmp_path / "r.png", caption="Mean over 20 facts,\nseed 0.")[1])
    for label, *_ in SERIES.values():
        assert label in shown
    for text in (
        "range of 4 draws",
        "Base model without gates, false claims",
        "Gate strength s",
        "Stance margin (nats)",
        "Mean over 20 facts,",
        "seed 0.",
    ):
        assert text in shown


def test_series_differ_in_colour_and_for_the_sake_of_grey_in_marker() -> None:
    colours, markers = [s[1] for s in SERIES.values()], [s[2] for s in SERIES.values()]
    assert len(set(colours)) == len(set(markers)) == len(SERIES)
    assert NULL_COLOUR not in colours


def pixels(numbers: dict[str, Any], folder: Path) -> np.ndarray:
    return plt.imread(draw_reversal(numbers, folder / "r.png", caption="c")[0])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, make_numbers: Callable[[], dict[str, Any]]) -> np.ndarray:
    """The figure of the made-up numbers."""
    return pixels(make_numbers(), tmp_path_factory.mktemp("drawn"))


def test_equal_numbers_give_equal_pixels(numbers: dict[str, Any], drawn: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(pixels(numbers, tmp_path), drawn)


@pytest.mark.parametrize(
    "place",
    [
        ("curves", "base", "false, medical", 0, "level", "value"),
        ("curves", "base", "false, other domains", 2, "level", "value"),
        ("curves", "lora", "true, all domains", 1, "level", "low"),
        ("curves", "lora", "false, medical", 1, "level", "high"),
        ("nulls", "band", 1, "low"),
        ("nulls", "band", 3, "high"),
    ],
    ids=str,
)
def test_every_number_is_drawn(
    place: tuple[Any, ...], numbers: dict[str, Any], drawn: np.ndarray, tmp_path: Path
) -> None:
    part: Any = numbers
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] += -0.1 if place[-1] == "low" else 0.1  # outwards
    assert not np.array_equal(pixels(numbers, tmp_path), drawn)


def test_drawing_changes_neither_the_numbers_nor_matplotlibs_settings(numbers: dict[str, Any], tmp_path: Path) -> None:
    before, settings, opened = copy.deepcopy(numbers), dict(plt.rcParams), plt.get_fignums()
    draw_reversal(numbers, tmp_path / "r.png", caption="c")
    assert numbers == before
    assert dict(plt.rcParams) == settings
    assert plt.get_fignums() == opened


@pytest.mark.parametrize("host", ["base", "lora"])
@pytest.mark.parametrize("name", SERIES)
def test_a_missing_series_is_an_error_and_leaves_no_file(
    numbers: dict[str, Any], host: str, name: str, tmp_path: Path
) -> None:
    del numbers["curves"][host][name]
    with pytest.raises((KeyError, MechgateError), match=name):
        draw_reversal(numbers, tmp_path / "r.png", caption="c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [("curves",), ("nulls",), ("curves", "lora"), ("nulls", "band"), ("nulls", "draws")])
def test_missing_numbers_are_an_error(numbers: dict[str, Any], path: tuple[str, ...], tmp_path: Path) -> None:
    part = numbers
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    with pytest.raises((KeyError, MechgateError), match=path[-1]):
        draw_reversal(numbers, tmp_path / "r.png", caption="c")


def test_a_failed_drawing_keeps_the_old_figure(numbers: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "r.png").write_bytes(b"old")
    (tmp_path / "in the way").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        draw_reversal(numbers, tmp_path / "in the way" / "r.png", caption="c")
    del numbers["nulls"]
    with pytest.raises(KeyError, match="nulls"):
        draw_reversal(numbers, tmp_path / "r.png", caption="c")
    assert (tmp_path / "r.png").read_bytes() == b"old"
