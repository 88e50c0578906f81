"""Laws of the atlas and of the transfer matrix as figures: both formats, every number drawn, signs legible in grey."""

import copy
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mechgate.errors import DataError, InputError
from mechgate.report.atlas import draw_atlas
from mechgate.report.transfer import draw_transfer

Est = Callable[..., dict[str, Any]]


def texts(svg: Path) -> str:
    return " ".join(" ".join(ET.parse(svg).getroot().itertext()).split())


def atlas() -> dict[str, Any]:
    """Made-up maps of 4 layers x 3 heads; one cell is significant and negative."""
    r = np.random.default_rng(0)
    p = np.ones((4, 3))
    p[1, 2] = 0.01
    maps: dict[str, Any] = {"size": {"values": r.random((4, 3)).tolist()}}
    for name in ("difference", "signed difference", "attribution"):
        values = r.normal(size=(4, 3))
        values[1, 2] = -1.5
        maps[name] = {"values": values.tolist(), "p": p.tolist()}
    return {"maps": maps, "layers": [2, 5, 7, 8]}


@pytest.fixture
def matrix(est: Est) -> dict[str, Any]:
    """Made-up changes between two domains of training and three of test."""
    trained, tested = ["finance", "medical"], ["finance", "medical", "science"]
    keys = [
        (k, s, of, on) for k in ("false_claim", "true_claim") for s in (-1.0, 1.0) for of in trained for on in tested
    ]
    names = ("kind", "strength", "trained", "tested")
    cells = [dict(zip(names, key, strict=True), change=est(key[1] * (1 + 0.1 * i))) for i, key in enumerate(keys)]
    return {"trained": trained, "tested": tested, "cells": cells, "contrasts": []}


def pixels(draw: Callable[..., list[Path]], numbers: dict[str, Any], folder: Path, **more: Any) -> np.ndarray:
    before, opened = copy.deepcopy(numbers), plt.get_fignums()
    written = draw(numbers, folder / "f.png", caption="c", **more)
    assert [path.name for path in written] == ["f.png", "f.svg"]
    assert numbers == before
    assert plt.get_fignums() == opened
    return plt.imread(written[0])


def differs(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape != other.shape or not np.array_equal(one, other)


def test_panels_units_layers_and_caption_are_named(tmp_path: Path) -> None:
    shown = texts(draw_atlas(atlas(), tmp_path / "a.png", caption="Over 12 facts,\n3 seeds.")[1])
    for text in ("Mean |g − 1|", "false minus true claims", "(nats)", "Layer", "Head", "Over 12 facts,", "3 seeds."):
        assert text in shown
    # the gated layers by their own numbers, not by their place
    words = shown.split()
    assert all(str(layer) in words for layer in atlas()["layers"])


@pytest.mark.parametrize("name", ["size", "difference", "attribution"])
def test_every_value_is_drawn(name: str, tmp_path: Path) -> None:
    plain, changed = atlas(), atlas()
    changed["maps"][name]["values"][3][0] += 0.4
    assert differs(pixels(draw_atlas, plain, tmp_path), pixels(draw_atlas, changed, tmp_path))


def test_significance_is_marked_and_its_sign_too(tmp_path: Path) -> None:
    plain = pixels(draw_atlas, atlas(), tmp_path)
    assert differs(plain, pixels(draw_atlas, atlas(), tmp_path, alpha=0.001))
    positive = atlas()
    positive["maps"]["attribution"]["values"] = (-np.array(positive["maps"]["attribution"]["values"])).tolist()
    dark = [(image[..., :3].max(axis=-1) < 0.1).sum() for image in (plain, pixels(draw_atlas, positive, tmp_path))]
    assert dark[1] > dark[0]  # a filled dot has more black than a ring


def test_the_signed_difference_is_another_panel(tmp_path: Path) -> None:
    assert differs(
        pixels(draw_atlas, atlas(), tmp_path), pixels(draw_atlas, atlas(), tmp_path, difference="signed difference")
    )
    with pytest.raises(InputError, match="difference"):
        draw_atlas(atlas(), tmp_path / "x.png", caption="c", difference="size")


def test_an_atlas_without_a_map_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    numbers = atlas()
    del numbers["maps"]["attribution"]
    with pytest.raises(DataError, match="attribution"):
        draw_atlas(numbers, tmp_path / "a.png", caption="c")
    assert list(tmp_path.iterdir()) == []


def test_cells_say_their_value_and_half_the_interval(matrix: dict[str, Any], tmp_path: Path) -> None:
    shown = texts(draw_transfer(matrix, tmp_path / "t.png", caption="A caption.")[1])
    for cell in matrix["cells"]:
        assert f"{cell['change']['value']:+.2f}".replace("-", "−") in shown
    for text in (
        "±0.25",
        "False claims, s = −1",
        "True claims, s = +1",
        "nats",
        "Domain of training",
        "Domain of test",
    ):
        assert text in shown
    assert "A caption." in shown


def test_rows_are_domains_of_training_from_the_top_in_every_panel(
    matrix: dict[str, Any], tmp_path: Path, est: Est
) -> None:
    """A change of the first row's first cell shows in the upper left of its panel."""
    plain = pixels(draw_transfer, matrix, tmp_path)
    for panel, (kind, strength) in enumerate((("false_claim", 1.0), ("true_claim", 1.0))):
        changed = copy.deepcopy(matrix)
        cell = next(c for c in changed["cells"] if (c["kind"], c["strength"]) == (kind, strength))
        cell["change"] = est(cell["change"]["value"] - 0.35)
        rows, columns = np.nonzero((pixels(draw_transfer, changed, tmp_path) != plain).any(axis=-1))
        height, width = plain.shape[:2]
        body = height * 0.9
        assert rows.max() < body * (0.27 + 0.5 * panel)
        assert width * 0.4 < columns.min() < columns.max() < width * 0.75


def test_holes_in_the_matrix_are_an_error(matrix: dict[str, Any], tmp_path: Path) -> None:
    del matrix["cells"][0]
    with pytest.raises(DataError, match="holes"):
        draw_transfer(matrix, tmp_path / "t.png", caption="c")
    with pytest.raises(DataError, match="holes"):
        draw_transfer(matrix | {"cells": []}, tmp_path / "t.png", caption="c")
    assert list(tmp_path.iterdir()) == []
