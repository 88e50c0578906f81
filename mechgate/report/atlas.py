"""The atlas of gates: three heat maps of layers x heads. Draws what `analysis.atlas.atlas_numbers` found."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from mechgate.errors import DataError, check_choice
from mechgate.report.figures import STYLE, save_figure

# map -> (title, label of the colour bar); dots mark what max-T finds
_PANELS = {
    "size": ("How far gates are from 1", "Mean |g − 1|"),
    "difference": ("What false claims change", "|g − 1|, false minus true claims"),
    "signed difference": ("What false claims change", "g − 1, false minus true claims"),
    "attribution": ("What heads contribute", "Part of the change of the stance margin (nats)"),
}
# Both are told apart with every common form of colour blindness, and grow lighter (first) or darker to both sides
# (second) without a break, so that they read in grey; dots then say the sign.
_SIZE, _SIGNED = "viridis", "PuOr_r"
ALPHA = 0.05


def draw_atlas(
    numbers: dict[str, Any], path: Path, *, caption: str, difference: str = "difference", alpha: float = ALPHA
) -> list[Path]:
    """Draw the maps of size, `difference` ("difference" or "signed difference") and attribution side by side.

    Cells whose max-T p is at most `alpha` have a dot: filled where the value is positive, a ring where it is negative.
    Signed maps are centred at 0. Writes PNG and SVG and returns their paths. Raises `InputError` for another
    difference, `DataError` for numbers without these maps.
    """
    check_choice("difference", difference, ("difference", "signed difference"))
    names = ["size", difference, "attribution"]
    if lost := [name for name in names if name not in numbers.get("maps", {})]:
        raise DataError("the atlas lacks maps", got=f"no {', '.join(lost)}")
    layers, heads = len(numbers["layers"]), len(numbers["maps"]["size"]["values"][0])
    height = min(max(0.135 * layers, 1.6), 7.0)
    with plt.rc_context({**STYLE, "axes.spines.top": True, "axes.spines.right": True}):
        figure, axes = plt.subplots(1, 3, figsize=(9.2, height + 1.9), sharey=True)
        try:
            for letter, panel, name in zip("abc", axes, names, strict=True):
                _panel(figure, panel, name, numbers["maps"][name], numbers["layers"], alpha)
                panel.set_title(f"{letter}  {_PANELS[name][0]}", loc="left", fontweight="bold", fontsize=9)
                panel.set_xlim(-0.5, heads - 0.5)
            axes[0].set_ylabel("Layer")
            figure.text(0.01, 0.012, caption, fontsize=7.5, color="#333333", va="bottom")
            below = 0.16 * (caption.count("\n") + 1) + 0.1
            figure.tight_layout(rect=(0, below / (height + 1.9), 1, 1), w_pad=1.6)
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _panel(figure: Any, axes: Any, name: str, found: dict[str, Any], layers: list[int], alpha: float) -> None:
    values = np.array(found["values"])
    heads, places = np.arange(values.shape[1]), np.arange(len(layers))
    largest = float(np.abs(values).max()) or 1.0
    if name == "size":
        mesh = axes.pcolormesh(heads, places, values, cmap=_SIZE, vmin=0, vmax=largest)
    else:
        mesh = axes.pcolormesh(heads, places, values, cmap=_SIGNED, vmin=-largest, vmax=largest)
        where = np.array(found["p"]) <= alpha
        for sign, face in ((1, "black"), (-1, "none")):
            rows, columns = np.nonzero(where & (np.sign(values) == sign))
            axes.scatter(columns, rows, s=9, facecolors=face, edgecolors="black", linewidths=0.7)
    axes.set_xlabel("Head")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    shown = places[:: max(1, -(-len(layers) // 16))]
    axes.set_yticks(shown, [str(layers[i]) for i in shown])
    axes.tick_params(length=2)
    bar = figure.colorbar(mesh, ax=axes, pad=0.03, fraction=0.07, aspect=40)
    bar.set_label(_PANELS[name][1], fontsize=8)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.outline.set_linewidth(0.5)
