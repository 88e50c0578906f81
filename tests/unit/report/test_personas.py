"""Laws of the persona figure: every direction has a column, every gate set a curve, and what is beyond both nulls is filled."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from mechgate.errors import DataError
from mechgate.report import personas as module
from mechgate.report.personas import caption_of, draw_personas

NAMES = ("sycophancy", "humour", "host minus base")


def curve(p: float = 0.5) -> dict[str, Any]:
    null = {"p": [p, 1.0], "band": [0.2, 0.3], "p_any": p}
    return {"value": [0.4, -0.1], "gaussian": null, "labels": null}


def numbers(gates: int = 2) -> dict[str, Any]:
    own = [f"sycophancy-{k}-0123456789ab" for k in range(gates)]
    arms = (*own, "control", "row-sign 0", "row-sign 1", "haar 0", "dampener")
    directions = {
        name: {"steers": steers, "kind": "host" if steers is None else "unrelated", "rows": 10}
        for name, steers in zip(NAMES, (True, False, None), strict=True)
    }
    settings = dict(questions=20, instructions=5, max_new_tokens=32, strength=-1.0, split="test", position="last")
    settings |= dict(permutations=1000, directions=4, steer_questions=10, steer_nulls=19)
    return {
        "gates": own,
        "controls": ["control"],
        "nulls": list(arms[gates + 1 :]),
        "layers": 2,
        "facts": 64,
        "steer layer": 1,
        "settings": settings,
        "directions": directions,
        "write": {arm: {name: {"response_avg": curve(0.01)} for name in NAMES} for arm in arms},
        "read": {arm: {name: curve() for name in NAMES} for arm in arms},
    }


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure) or [path])
    return figures


def test_every_direction_has_a_column_and_every_gate_set_a_curve(kept: list[Any], tmp_path: Path) -> None:
    draw_personas(numbers(), tmp_path / "x.png", caption="n")
    axes = kept[0].axes
    assert len(axes) == 6
    assert [one.get_title() for one in axes[:3]] == [
        "sycophancy\n(steers)",
        "humour\n(does not steer)",
        "host\nminus base",
    ]
    # Zero line, two outlines (one below), nulls, a control, and two lines a gate set.
    assert [len(one.lines) for one in axes] == [1 + 2 + 4 + 1 + 4] * 3 + [1 + 1 + 2 + 1 + 4] * 3
    filled = [line for line in axes[0].lines if line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in filled] == [[0], [0]]
    assert all(not len(line.get_xdata()) for line in axes[3].lines if line.get_linestyle() == "None")
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    assert {"sycophancy-0", "sycophancy-1", "control gates", "matched dampener"} < set(labels)
    assert len(labels) == len(set(labels))


def test_files_are_written_and_the_figure_is_closed(tmp_path: Path) -> None:
    before = plt.get_fignums()
    for path in draw_personas(numbers(), tmp_path / "x.png", caption=caption_of("a model", numbers())):
        assert path.stat().st_size > 1000
    assert plt.get_fignums() == before
    for wrong in (numbers() | {"directions": {}}, numbers(6), numbers() | {"gates": []}):
        with pytest.raises(DataError, match="cannot be drawn"):
            draw_personas(wrong, tmp_path / "x.png", caption="n")


def test_the_caption_says_replies_gates_facts_and_draws() -> None:
    found = caption_of("a model", numbers())
    for part in ("a model", "at least 10 pairs", "2 gate set(s) at s = -1", "64 facts", "1000 null", "layer 1"):
        assert part in found
