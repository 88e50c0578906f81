"""Interventions at equal efficacy, side by side: what each does to the wanted side, the other side and abilities."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mechgate.errors import DataError
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

_COLUMNS = (
    ("effect", "E: false claims\n(nats)", 0.0),
    ("side_effect", "A: true claims\n(nats)", 0.0),
    ("four-choice margin", "Four-choice margin\n(nats a token)", 0.0),
    ("perplexity ratio, chat", "Perplexity ratio,\nchat", 1.0),
    ("KL, chat", "KL from the base,\nchat (nats a token)", 0.0),
)
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#0072B2", "#D55E00")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_SAID: Any = dict(
    ha="center", va="center", fontsize=8, color="#555555", bbox=dict(facecolor="white", edgecolor="none", pad=1)
)


def draw_baselines(numbers: dict[str, Any], path: Path, *, caption: str, names: dict[str, str]) -> list[Path]:
    """A row an intervention of `referee.baselines` (named by `names`), a column a measure; PNG and SVG.

    Dots are means with their 95% intervals, small ones training seeds. An intervention that could not be matched says
    so in its row. Raises `DataError` for none, or more than there are marks.
    """
    ways = numbers["ways"]
    if not 1 <= len(ways) <= len(_MARKS):
        raise DataError("that many interventions cannot be drawn", got=len(ways), allowed=f"1 to {len(_MARKS)}")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(_COLUMNS), figsize=(10.4, 1.5 + 0.5 * len(ways)), sharey=True)
        try:
            for panel, (measure, title, still) in zip(axes, _COLUMNS, strict=True):
                panel.axvline(still, color=NULL_COLOUR, linewidth=0.9)
                panel.set_title(title, fontsize=9)
                for row, (colour, mark, entry) in enumerate(zip(_COLOURS, _MARKS, ways.values(), strict=False)):
                    _cell(panel, measure, entry, row, colour, mark)
                panel.tick_params(axis="y", length=0)
                panel.margins(x=0.12)
            axes[0].axvline(numbers["direction"] * numbers["wanted"], color=NULL_COLOUR, linewidth=0.9, linestyle=":")
            axes[0].set_yticks(range(len(ways)), [names.get(name, name) for name in ways])
            axes[0].set_ylim(len(ways) - 0.5, -0.5)
            figure.text(0.01, 0.01, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.02 + 0.16 * (caption.count("\n") + 1) / figure.get_figheight(), 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _cell(panel: Any, measure: str, entry: dict[str, Any], row: int, colour: str, mark: str) -> None:
    if entry["axis"] is None:
        if measure == "effect":
            panel.text(0.5, row, "cannot be matched", transform=panel.get_yaxis_transform(), **_SAID)
        return
    found = entry["axis"][measure] if measure in entry["axis"] else entry["spared"][measure]
    if found is None:
        panel.text(0.5, row, "not defined", transform=panel.get_yaxis_transform(), **_SAID)
        return
    error = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
    panel.errorbar([found["value"]], [row], xerr=error, marker=mark, color=colour, markersize=6.5, linestyle="none")
    side = {"effect": "wanted", "side_effect": "unwanted"}.get(measure)
    if side:
        seeds = [one[side] for one in entry["sets"].values()]
        panel.scatter(seeds, [row + 0.22] * len(seeds), marker=mark, s=9, color=colour, alpha=0.6)
