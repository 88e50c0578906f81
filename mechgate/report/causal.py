"""Causal maps of heads beside maps of gates: three heat maps, and the two against each other head by head."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from mechgate.errors import DataError
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

_SIZE, _SIGNED = "viridis", "PuOr_r"
ALPHA = 0.05


def draw_causal(numbers: dict[str, Any], path: Path, *, caption: str, patch: str = "true into false") -> list[Path]:
    """a: the change of the stance by each head's patch; b: by knocking its gates out; c: mean |g - 1|; d: |g - 1| against the
    size of the patch's effect, a mark a head, with the rank correlation of each gate set. b to d are means over gate sets.

    Dots: max-T p at most .05 over the map (filled: positive, ring: negative). PNG and SVG. Raises `DataError` for numbers without that patch
    or without gates.
    """
    if patch not in numbers.get("patches", {}) or not numbers.get("size"):
        raise DataError(
            "causal maps cannot be drawn",
            got=f"patches {sorted(numbers.get('patches', {}))}, gates {len(numbers.get('size', {}))}",
        )
    found = numbers["patches"][patch]
    causal, size = np.array(found["values"]), np.mean(list(numbers["size"].values()), axis=0)
    knocked = np.mean([one["values"] for one in numbers["knocked"].values()], axis=0)
    layers = len(causal)
    height = min(max(0.135 * layers, 2.2), 5.0)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(12.6, height + 1.6), width_ratios=[1, 1, 1, 1.35])
        try:
            _map(figure, axes[0], causal, "a  What a patch changes", "Change of stance (nats)", p=np.array(found["p"]))
            one = next(iter(numbers["knocked"].values())) if len(numbers["knocked"]) == 1 else None
            p = None if one is None else np.array(one["p"])
            _map(figure, axes[1], knocked, "b  Gates knocked out", "Change of stance (nats)", p=p)
            _map(figure, axes[2], size, "c  How far gates are from 1", "Mean |g − 1|", signed=False)
            axes[0].set_ylabel("Layer")
            _scatter(axes[3], size, causal, numbers, patch)
            figure.text(0.01, 0.012, caption, fontsize=7.5, color="#333333", va="bottom")
            below = 0.16 * (caption.count("\n") + 1) + 0.12
            figure.tight_layout(rect=(0, below / (height + 1.6), 1, 1), w_pad=1.4)
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _map(figure: Any, axes: Any, values: Any, title: str, label: str, *, p: Any = None, signed: bool = True) -> None:
    heads, places = np.arange(values.shape[1]), np.arange(len(values))
    largest = float(np.abs(values).max()) or 1.0
    options: Any = dict(cmap=_SIGNED, vmin=-largest) if signed else dict(cmap=_SIZE, vmin=0)
    mesh = axes.pcolormesh(heads, places, values, vmax=largest, **options)
    if p is not None:
        for sign, face in ((1, "black"), (-1, "none")):
            rows, columns = np.nonzero((p <= ALPHA) & (np.sign(values) == sign))
            axes.scatter(columns, rows, s=9, facecolors=face, edgecolors="black", linewidths=0.7)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=9)
    axes.set_xlabel("Head")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(12, integer=True))
    bar = figure.colorbar(mesh, ax=axes, pad=0.03, fraction=0.07, aspect=40)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7.5, length=2)


def _scatter(axes: Any, size: Any, causal: Any, numbers: dict[str, Any], patch: str) -> None:
    depth = np.repeat(np.arange(len(size)), size.shape[1])
    points = axes.scatter(size.ravel(), np.abs(causal).ravel(), c=depth, cmap="cividis", s=13, linewidths=0)
    axes.figure.colorbar(points, ax=axes, pad=0.03, fraction=0.06, aspect=40).set_label("Layer", fontsize=8)
    axes.set_xlabel("Mean |g − 1|")
    axes.set_ylabel("Size of the patch's effect (nats)")
    axes.set_title("d  Head by head", loc="left", fontweight="bold", fontsize=9)
    found = [one[patch]["spearman"] for one in numbers["targeting"].values() if one.get(patch)]
    lines = "\n".join(f"{one['value']:+.2f} (p {one['p, layers']:.2g})" for one in found)
    said = axes.text(0.98, 0.98, f"Spearman\n{lines}" if found else "", transform=axes.transAxes, ha="right", va="top")
    said.set(fontsize=7.5, in_layout=False)
    axes.axhline(0, color=NULL_COLOUR, linewidth=0.7)
