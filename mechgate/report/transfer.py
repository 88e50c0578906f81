"""The transfer matrix as heat maps: domain of training x domain of test, a panel a kind of claim and strength."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from mechgate.errors import DataError
from mechgate.report.figures import STYLE, save_figure

_KINDS = {"false_claim": "False claims", "true_claim": "True claims"}
# Blue and orange-brown: told apart with every common form of colour blindness. The number in each cell reads in grey.
_COLOURS = "PuOr_r"


def draw_transfer(numbers: dict[str, Any], path: Path, *, caption: str) -> list[Path]:
    """Draw `analysis.transfer.transfer_numbers`: each cell has its change and half the width of its interval, in nats.

    One colour scale, centred at 0, for all panels; cells of a gate's own domain are framed, and values whose interval
    holds 0 are grey. Writes PNG and SVG and returns their paths. Raises `DataError` for numbers with missing cells.
    """
    trained, tested = numbers["trained"], numbers["tested"]
    cells = {(c["kind"], c["strength"], c["trained"], c["tested"]): c["change"] for c in numbers["cells"]}
    kinds = list(dict.fromkeys(key[0] for key in cells))
    strengths = sorted({key[1] for key in cells})
    wanted = [(k, s, of, on) for k in kinds for s in strengths for of in trained for on in tested]
    if not wanted or set(wanted) != set(cells):
        raise DataError("the transfer matrix has holes", got=f"{len(cells)} of {len(wanted)} cells")
    largest = max(abs(cell["value"]) for cell in cells.values()) or 1.0
    width, height = 0.62 * len(tested) * len(strengths) + 2.6, (0.5 * len(trained) + 1.05) * len(kinds) + 0.9
    width = max(width, 6.0)
    with plt.rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axes = plt.subplots(len(kinds), len(strengths), figsize=(width, height), sharey=True, squeeze=False)
        try:
            mesh: Any = None
            below = (0.16 * (caption.count("\n") + 1) + 0.15) / height
            figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, below, 1, 1 - below)))
            letters = iter("abcdefghijklmnopqrstuvwxyz")
            for kind, row in zip(kinds, axes, strict=True):
                for strength, panel in zip(strengths, row, strict=True):
                    table = [[cells[kind, strength, of, on] for on in tested] for of in trained]
                    mesh = _panel(panel, table, trained, tested, largest)
                    title = f"{next(letters)}  {_KINDS.get(kind, kind)}, s = {strength:+g}".replace("-", "−")
                    panel.set_title(title, loc="left", fontweight="bold")
                row[0].set_ylabel("Domain of training")
            for panel in axes[-1]:
                panel.set_xlabel("Domain of test")
            bar = figure.colorbar(mesh, ax=axes, fraction=0.025, pad=0.02, aspect=40)
            bar.set_label("Change of the stance margin (nats)")
            bar.outline.set_linewidth(0.5)
            figure.text(0.01, 0.08 / height, caption, fontsize=7.5, color="#333333", va="bottom")
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _panel(axes: Any, table: list[list[dict[str, Any]]], trained: list[str], tested: list[str], largest: float) -> Any:
    values = np.array([[cell["value"] for cell in row] for row in table])
    mesh = axes.pcolormesh(values, cmap=_COLOURS, vmin=-largest, vmax=largest, edgecolors="white", linewidth=0.8)
    axes.set_ylim(len(trained), 0)
    for i, row in enumerate(table):
        for j, cell in enumerate(row):
            holds_zero = cell["low"] <= 0 <= cell["high"]
            dark = abs(cell["value"]) > 0.6 * largest
            colour = "white" if dark else "#555555" if holds_zero else "black"
            text = f"{cell['value']:+.2f}\n±{(cell['high'] - cell['low']) / 2:.2f}".replace("-", "−")
            axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=7, color=colour, linespacing=1.05)
            if trained[i] == tested[j]:
                axes.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor="black", linewidth=1.4, clip_on=False))
    axes.set_xticks(np.arange(len(tested)) + 0.5, tested, fontsize=8)
    axes.set_yticks(np.arange(len(trained)) + 0.5, trained, fontsize=8)
    axes.tick_params(length=0)
    return mesh
