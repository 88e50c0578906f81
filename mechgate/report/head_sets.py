"""Faithfulness of head sets: what the first heads' gates keep alone, what is left without them, and direct effects by layer."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mechgate.errors import DataError
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

# order of heads -> (label, colour, marker, line style, shift on the log axis, lest points at one size hide each other)
ORDERS = {
    "most gated": ("Most gated first (|g − 1|)", "#0072B2", "o", "-", -0.035),
    "attribution": ("Attribution first", "#D55E00", "s", "--", 0.035),
    "knocked in": ("Single effects first", "#009E73", "^", "-.", 0.0),
}
RANDOM = ("Random orders", "#56B4E9", "x", ":", 0.0)
PATHS = {
    "total": ("Whole effect of the layer's gates", "#000000", "o", "-"),
    "direct": ("Direct (all else frozen)", "#E69F00", "s", "--"),
    "indirect": ("Indirect (whole − direct)", "#CC79A7", "^", ":"),
}
# where random sets may differ -> (words, colour, marker, hatching, shift)
RANDOM_SETS = {
    "layers": ("the same layers", NULL_COLOUR, "o", None, 0.1),
    "all": ("any layers", "#C9B18B", "+", "///", -0.1),
}
BAND = "most gated"
"""The order whose random sets are drawn as a band."""
LEAST_CORRELATION = 0.95
"""Of screened with exact shares of the same sets: below it a screened band is not drawn."""
LARGEST_OFFSET = 0.05
"""Mean difference of exact and screened shares: beyond it neither."""


def draw_head_sets(by_strength: dict[str, Any], path: Path, *, caption: str, share: float = 0.9) -> list[Path]:
    """A row a strength of one gate set (`causality.heads`): a: share of the effect kept by k heads' gates alone, with the band
    of random sets of the same layers (where it is exact, or its screen can be trusted), dots for exact ones at the smallest
    sets' sizes; b: share left without them; c: whole,
    direct and indirect effect by layer. PNG and SVG. Raises `DataError` for numbers without strengths.
    """
    if not by_strength:
        raise DataError("there is nothing to draw", got="no strengths")
    rows = len(by_strength)
    height = 2.75 * rows + 1.3
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, 3, figsize=(12.0, height), squeeze=False, width_ratios=[1, 1, 1.15])
        try:
            for row, (strength, found) in zip(axes, by_strength.items(), strict=True):
                s = strength.replace("-", "−")
                _curves(row[0], found, "kept", share)
                _curves(row[1], found, "left", share)
                row[0].set_ylabel(f"Gates at s = {s}\nShare of the effect kept")
                row[1].set_ylabel("Share of the effect left")
                _paths(row[2], found["paths"])
            for panel, title in zip(
                axes[0], ("a  Only k heads' gates on", "b  These heads' gates off", "c  One layer"), strict=True
            ):
                panel.set_title(title, loc="left", fontweight="bold")
            _legends(figure, axes)
            figure.text(0.01, 0.012, caption, fontsize=7.5, color="#333333", va="bottom")
            below = 0.16 * (caption.count("\n") + 1) + 0.72
            figure.tight_layout(rect=(0, below / height, 1, 1), w_pad=1.6)
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _curves(axes: Any, found: dict[str, Any], end: str, share: float) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlabel("k, number of heads")
    if found["curves"] is None:
        axes.text(0.5, 0.5, "No effect to take apart", transform=axes.transAxes, ha="center", color="#333333")
        axes.set(yticks=[], xticks=[])
        return
    for at in (0.0, 1.0):
        axes.axhline(at, color="black", linewidth=0.5, alpha=0.4, zorder=0)
    if end == "kept":
        axes.axhline(share, color="black", linewidth=0.7, linestyle=(0, (1, 3)), zorder=0)
        _random_sets(axes, found)
    for name, curve in found["curves"].items():
        label, colour, marker, line, shift = ORDERS.get(name, RANDOM)
        x, points = np.array(curve["sizes"]) * 2.0**shift, curve[end]
        values = [one["value"] for one in points]
        thin = name not in ORDERS
        axes.plot(
            x,
            values,
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=3.5,
            linewidth=1.0,
            label=label,
            alpha=0.9,
        )
        if not thin:
            low, high = ([one[side] for one in points] for side in ("low", "high"))
            axes.vlines(x, low, high, color=colour, linewidth=0.9)
    sizes = next(iter(found["curves"].values()))["sizes"]
    axes.set_xticks(sizes, list(map(str, sizes)), fontsize=8)
    axes.minorticks_off()


def _random_sets(axes: Any, found: dict[str, Any]) -> None:
    sizes, said = found["curves"][BAND]["sizes"], []
    for within, (words, colour, marker, hatch, shift) in RANDOM_SETS.items():
        band = found["band"][BAND][within]
        beside = ((found["smallest"] or {}).get(BAND) or {}).get("random", {}).get(within)
        screen = beside and beside["screen"]
        r = f"{screen['r']:.2f}" if screen else "unknown"
        # A band also says how much is kept: screened sums may order sets rightly and still lie too low.
        level = screen.get("exact minus screened", 0.0) if screen else 0.0
        trusted = screen is not None and screen["r"] >= LEAST_CORRELATION and abs(level) <= LARGEST_OFFSET
        said.append(f"{words} {r}" + ("" if trusted or band["exact"] else " (no band)"))
        if band["exact"] or trusted:
            how = "range of 19" if band["exact"] else "middle 95%, screened"
            low, high = ([one[end] for one in band["exact"] or band["screened"]] for end in ("low", "high"))
            label = f"Random sets in {words}: {how}"
            axes.fill_between(sizes, low, high, color=colour, alpha=0.35, linewidth=0, hatch=hatch, label=label)
        for name, one in (found["smallest"] or {}).items():
            if one is not None:
                exact = one["random"][within]["exact"]
                x = np.full(len(exact), len(one["heads"]) * 2.0 ** (ORDERS[name][-1] + shift))
                label = f"Random sets in {words}, exactly"
                axes.scatter(x, exact, s=9, color=colour, marker=marker, linewidths=0.6, label=label)
    said_of = "Screen's r: " + ", ".join(said)
    axes.text(0.99, 0.02, said_of, transform=axes.transAxes, ha="right", fontsize=7, color="#333333")
    for name, one in (found["smallest"] or {}).items():
        if one is not None:
            _, colour, marker, _, shift = ORDERS[name]
            place = len(one["heads"]) * 2.0**shift, one["kept"]["value"]
            axes.plot(*place, marker=marker, markersize=8, color="none", markeredgecolor=colour)
            axes.annotate(
                str(len(one["heads"])), place, (0, 7), textcoords="offset points", ha="center", fontsize=8, color=colour
            )


def _paths(axes: Any, paths: dict[str, Any]) -> None:
    axes.axhline(0, color="black", linewidth=0.5, alpha=0.4, zorder=0)
    for (kind, (label, colour, marker, line)), shift in zip(PATHS.items(), (0.0, -0.18, 0.18), strict=True):
        points = paths["by layer"][kind]
        x = np.array(paths["layers"]) + shift
        axes.plot(
            x,
            [one["value"] for one in points],
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=3,
            linewidth=0.9,
            label=label,
        )
        axes.vlines(x, [one["low"] for one in points], [one["high"] for one in points], color=colour, linewidth=0.7)
    every = paths["all layers"]
    said = ", ".join(f"{kind.replace('total', 'whole')} {every[kind]['value']:+.2f}" for kind in PATHS).replace(
        "-", "−"
    )
    axes.set_xlabel(f"Layer\nAll at once: {said} nats", fontsize=8.5)
    axes.set_ylabel("Change of stance margin (nats)")


def _legends(figure: Any, axes: Any) -> None:
    found: dict[str, Any] = {}
    for panel in axes.ravel():
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    paths = {label for label, *_ in PATHS.values()}
    for labels, place, columns in (
        ([label for label in found if label not in paths], 0.36, 3),
        ([label for label in found if label in paths], 0.86, 1),
    ):
        if labels:
            figure.legend(
                [found[label] for label in labels],
                labels,
                loc="lower center",
                ncols=columns,
                bbox_to_anchor=(place, 0.33 / figure.get_figheight()),
                fontsize=8,
            )
