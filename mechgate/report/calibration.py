"""The figure of calibration: error rates of verdicts, p-values, coverage of intervals, power. Draws numbers, computes none."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

# Okabe and Ito's colours; every series has its own marker and line style too.
_SERIES = [
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#E69F00", "v", "-"),
    ("#56B4E9", "P", "--"),
    ("#000000", "X", "-."),
    ("#8C510A", "*", ":"),
]
_POWER = ("not selective", "partly selective", "selective")


def draw_calibration(numbers: dict[str, Any], path: Path, *, caption: str) -> list[Path]:
    """Draw (a) how often verdicts are wrong in null worlds, (b) quantiles of p-values under true nulls, (c) coverage of
    intervals, (d) verdicts over true sigma. Writes PNG and SVG and returns their paths."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(9.6, 8.4))
        try:
            _errors(axes[0, 0], numbers["worlds"])
            _p_values(axes[0, 1], numbers)
            _coverage(axes[1, 0], numbers["worlds"])
            _power(axes[1, 1], numbers["power"])
            titles = ("Wrong verdicts in null worlds", "p-values where the null is true", "Intervals", "Power")
            for letter, panel, title in zip("abcd", axes.ravel(), titles, strict=True):
                panel.set_title(f"{letter}  {title}", loc="left", fontweight="bold")
            figure.text(0.01, 0.008, caption, fontsize=7.5, color="#333333", va="bottom")
            below = 0.16 * (caption.count("\n") + 1) + 0.1
            figure.tight_layout(rect=(0, below / 8.4, 1, 1), h_pad=2.0, w_pad=2.0)
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _errors(axes: Any, worlds: dict[str, Any]) -> None:
    for i, world in enumerate(worlds.values()):
        wrong = world["wrong"]
        share, good = wrong["share"], wrong["within"]
        axes.plot([share["low"], share["high"]], [i, i], color="#0072B2" if good else "#D55E00", linewidth=1.4)
        axes.plot(share["value"], i, marker="o" if good else "X", color="#0072B2" if good else "#D55E00", markersize=6)
        axes.plot([wrong["limit"]] * 2, [i - 0.35, i + 0.35], color="black", linewidth=1.2)
    axes.plot([], [], color="black", linewidth=1.2, label="limit: nominal + 2 standard errors")
    axes.plot([], [], marker="o", linestyle="", color="#0072B2", label="within")
    axes.plot([], [], marker="X", linestyle="", color="#D55E00", label="above")
    axes.set_yticks(range(len(worlds)), list(worlds))
    axes.invert_yaxis()
    axes.set_xlim(left=-0.01)
    axes.set_xlabel("Share of wrong verdicts (95% Clopper-Pearson)")
    axes.legend(fontsize=7, loc="lower right")


def _p_values(axes: Any, numbers: dict[str, Any]) -> None:
    found = {
        f"{test[3:]}, {name}": one for name, world in numbers["worlds"].items() for test, one in world["p"].items()
    }
    found |= numbers.get("tests", {})
    axes.plot([0, 1], [0, 1], color=NULL_COLOUR, linewidth=3, alpha=0.5)
    uniform = np.linspace(0, 1, 21)
    for i, (name, one) in enumerate(found.items()):
        colour, marker, line = _SERIES[i % len(_SERIES)]
        filled = i < len(_SERIES)
        axes.plot(
            uniform,
            one["quantiles"],
            color=colour,
            marker=marker,
            markerfacecolor=colour if filled else "white",
            linestyle=line,
            linewidth=0.8,
            markersize=3,
            markevery=(i % 4, 4),
            label=f"{name} ({one['question']}{'' if one['calibrated'] else ': fails'})",
        )
    axes.set_xlabel("Share of simulations with a smaller p (uniform: the grey line)")
    axes.set_ylabel("p")
    axes.legend(fontsize=5.8, loc="upper left", handlelength=2.8, labelspacing=0.25, borderaxespad=0.1)


def _coverage(axes: Any, worlds: dict[str, Any]) -> None:
    names = list(next(iter(worlds.values()))["coverage"])
    shift = np.linspace(-0.3, 0.3, len(worlds))
    for i, (label, world) in enumerate(worlds.items()):
        colour, marker, _ = _SERIES[i % len(_SERIES)]
        for j, name in enumerate(names):
            one = world["coverage"][name]
            if one is None:
                continue
            x = j + shift[i]
            axes.plot([x, x], [one["low"], one["high"]], color=colour, linewidth=0.9)
            axes.plot(
                x, one["value"], color=colour, marker=marker, markersize=4, linestyle="", label=label if not j else None
            )
    axes.axhline(0.95, color="black", linewidth=1, linestyle=":")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("Interval of")
    axes.set_ylabel("Share that covers the truth (nominal .95)")
    axes.legend(fontsize=6.5, loc="lower right", ncols=2)


def _power(axes: Any, power: list[dict[str, Any]]) -> None:
    designs = list(dict.fromkeys((point["sets"], point["facts"]) for point in power))
    for k, design in enumerate(designs):
        points = sorted((p for p in power if (p["sets"], p["facts"]) == design), key=lambda p: p["sigma"])
        for outcome, (colour, marker, _) in zip(_POWER, _SERIES, strict=False):
            shares = [p["outcomes"][outcome] for p in points]
            x = np.array([p["sigma"] for p in points]) + 0.008 * (k - 0.5)
            y = [one["value"] for one in shares]
            ends = [[one["value"] - one["low"] for one in shares], [one["high"] - one["value"] for one in shares]]
            axes.errorbar(
                x,
                y,
                yerr=ends,
                color=colour,
                marker=marker,
                markerfacecolor="white" if k else colour,
                linestyle="--" if k else "-",
                linewidth=1,
                elinewidth=0.6,
                markersize=4,
                label=f"{outcome}; {design[0]} sets, {design[1]} facts",
            )
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("True sigma = 1 − A/E")
    axes.set_ylabel("Share of verdicts (95% Clopper-Pearson)")
    axes.legend(fontsize=6, loc="center left")
