"""Persona vectors beside gates: cosines by layer with null bands, what gates write above what they read, traits side by side."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from mechgate.errors import DataError
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

_SHADES = ("#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9")
_MARKS = ("o", "s", "D", "v", "P")
_CONTROL = dict(color="#009E73", marker="^", markersize=2.6, linewidth=0.8, linestyle="--")
_KINDS = {"row-sign": (":", "row-sign nulls"), "haar": ("-.", "Haar nulls"), "dampener": ("--", "matched dampener")}
_SIDES = (
    ("write", "a  Written: cosine of\ndisplacement and vector"),
    ("read", "b  Read: share of the vector's\nlength in W's top directions"),
)


def draw_personas(numbers: dict[str, Any], path: Path, *, caption: str) -> list[Path]:
    """A column a direction of `representation.personas`; above what gates write, below what they read; PNG and SVG.

    Bands hold 95% of null directions at each layer alone (shaded: Gaussian with the activations' covariance; outlined:
    labels exchanged), of the first gate set. Layers with p at most .05 over layers by both nulls are filled marks. The
    title says whether a vector steers. Raises `DataError` without gates or directions, and for more than five gate
    sets.
    """
    names = list(numbers.get("directions", {}))
    if not names or not 1 <= len(numbers["gates"]) <= len(_MARKS):
        raise DataError(
            "persona vectors cannot be drawn", got=f"{len(names)} directions, {len(numbers.get('gates', []))} gate sets"
        )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, len(names), figsize=(1.9 + 1.75 * len(names), 5.9), sharex=True, sharey="row", squeeze=False
        )
        try:
            for row, (side, label) in zip(axes, _SIDES, strict=True):
                for panel, name in zip(row, names, strict=True):
                    _curves(panel, numbers, side, name)
                row[0].set_ylabel(label, fontsize=8.5)
            for panel, name in zip(axes[0], names, strict=True):
                panel.set_title(_title(name, numbers["directions"][name]), fontsize=8.5)
            for panel in axes[1]:
                panel.set_xlabel("Layer")
                panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="lower center", ncols=4, bbox_to_anchor=(0.5, 0.1), fontsize=8)
            figure.text(0.01, 0.01, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.19, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def caption_of(model: str, numbers: dict[str, Any]) -> str:
    """What stands under the figure: replies, gates, facts, draws."""
    s = numbers["settings"]
    rows = min(one["rows"] for one in numbers["directions"].values() if one["kind"] != "host")
    return (
        f"{model}; vectors from at least {rows} pairs of replies a trait ({s['questions']} questions, {s['instructions']} pairs of "
        f"system messages, {s['max_new_tokens']} tokens), mean over the reply;\n{len(numbers['gates'])} gate set(s) at s = "
        f"{s['strength']:+g} on {numbers['facts']} facts ({s['split']}), {s['position']} token(s) of false claims; "
        f"{s['permutations']} null directions a band; top {s['directions']} right-singular vectors.\nFilled marks: p at most .05 "
        f"over layers by both nulls. Steering at layer {numbers['steer layer']}, {s['steer_questions']} held-out questions beside "
        f"{s['steer_nulls']} null directions."
    )


def _title(name: str, one: dict[str, Any]) -> str:
    if one["steers"] is None:
        return name.replace(" minus base", "\nminus base")
    return f"{name}\n({'steers' if one['steers'] else 'does not steer'})"


def _curve(numbers: dict[str, Any], side: str, arm: str, name: str) -> dict[str, Any]:
    found = numbers[side][arm][name]
    return found if side == "read" else next(iter(found.values()))


def _curves(panel: Any, numbers: dict[str, Any], side: str, name: str) -> None:
    layers = np.arange(numbers["layers"])
    panel.axhline(0, color="black", linewidth=0.5, alpha=0.5)
    first = _curve(numbers, side, numbers["gates"][0], name)
    low = 0 if side == "read" else -1
    band, other = (np.array(first[null]["band"]) for null in ("gaussian", "labels"))
    panel.fill_between(
        layers, low * band, band, color=NULL_COLOUR, alpha=0.3, linewidth=0, label="95% of Gaussian directions"
    )
    panel.plot(layers, other, color="black", linewidth=0.8, label="95% with labels exchanged")
    if low:
        panel.plot(layers, -other, color="black", linewidth=0.8)
    seen = set()
    for arm in numbers["nulls"]:
        if side == "read" and arm.startswith("row-sign"):
            continue  # flipping signs of units leaves what W reads as it is
        line, label = _KINDS[arm.split()[0]]
        values = _curve(numbers, side, arm, name)["value"]
        panel.plot(
            layers, values, color="#555555", linewidth=0.7, linestyle=line, label=None if label in seen else label
        )
        seen.add(label)
    for k, arm in enumerate(numbers["controls"]):
        values = _curve(numbers, side, arm, name)["value"]
        panel.plot(layers, values, label=None if k else "control gates", **_CONTROL)
    for arm, colour, mark in zip(numbers["gates"], _SHADES, _MARKS, strict=False):
        found = _curve(numbers, side, arm, name)
        beyond = np.maximum(found["gaussian"]["p"], found["labels"]["p"]) <= 0.05
        values = np.array(found["value"])
        style: Any = dict(color=colour, marker=mark, markersize=3.2)
        panel.plot(layers, values, linewidth=1.1, markerfacecolor="white", label=_short(arm), **style)
        panel.plot(layers[beyond], values[beyond], linestyle="none", **style)


def _short(arm: str) -> str:
    """A gate file's name without its hash."""
    head, _, tail = arm.rpartition("-")
    return head if head and len(tail) == 12 and all(c in "0123456789abcdef" for c in tail) else arm
