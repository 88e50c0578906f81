"""The plane of variants: how far each moves what it should, against what it should spare."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mechgate.errors import DataError
from mechgate.report.figures import STYLE, save_figure
from mechgate.report.selectivity_figures import CONTROL_COLOURS, CONTROL_MARKS, legend, sigma_lines

_MARKS = ("o", "s", *CONTROL_MARKS)
_COLOURS = ("#0072B2", "#D55E00", *CONTROL_COLOURS)


def draw_objectives(found: dict[str, Any], path: Path, *, caption: str) -> list[Path]:
    """Efficacy against damage of every variant, on all facts and on known ones; PNG and SVG.

    `found` has for each variant "axes" (by subset, the verdict's strength first) and "sets" (each seed's means). Raises
    `DataError` for none, or more than there are marks.
    """
    if not 1 <= len(found) <= len(_MARKS):
        raise DataError("that many variants cannot be drawn", got=len(found), allowed=f"1 to {len(_MARKS)}")
    subsets = list(next(iter(found.values()))["axes"])
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(subsets), figsize=(4.9 * len(subsets), 5.4), sharex=True, sharey=True, squeeze=False
        )
        try:
            for panel, subset, letter in zip(axes.flat, subsets, "ab", strict=False):
                for k, (name, entry) in enumerate(found.items()):
                    _variant(panel, name, entry, subset, _MARKS[k], _COLOURS[k])
                panel.set_title(f"{letter}  {subset.capitalize()} facts", loc="left", fontweight="bold")
                panel.set_xlabel("Efficacy E: change, false claims (nats)")
            axes[0, 0].set_ylabel("Damage A: change, true claims (nats)")
            sigma_lines(*axes.flat)
            legend(figure, tuple(axes.flat), columns=2 + len(subsets), y=0.06)
            figure.text(0.01, 0.008, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.24, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _variant(panel: Any, name: str, entry: dict[str, Any], subset: str, mark: str, colour: str) -> None:
    at = entry["axes"][subset][0]
    e, a = at["effect"], at["side_effect"]
    panel.errorbar(
        [e["value"]],
        [a["value"]],
        xerr=[[e["value"] - e["low"]], [e["high"] - e["value"]]],
        yerr=[[a["value"] - a["low"]], [a["high"] - a["value"]]],
        marker=mark,
        color=colour,
        markersize=7,
        elinewidth=1.2,
        linestyle="none",
        label=name,
        zorder=4,
    )
    if subset == "all":
        points = [p for p in entry["sets"] if p["strength"] == at["strength"]]
        panel.scatter(
            [p["wanted"] for p in points], [p["unwanted"] for p in points], marker=mark, s=10, color=colour, alpha=0.6
        )
