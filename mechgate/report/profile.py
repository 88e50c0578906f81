"""The behaviour profile: small panels, one a measure, of its level over gate strength in every host."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mechgate.errors import DataError
from mechgate.report.figures import STYLE, save_figure

# line of the table -> panel title; in reading order, wanted effects first
PANELS = {
    "stance margin, false claims": "Agreement with false claims",
    "replies agree, false claims": "Replies agree, false claims",
    "replies disagree, false claims": "Replies disagree, false claims",
    "stance margin, true claims": "Agreement with true claims",
    "discrimination, false minus true": "False minus true claims",
    "replies agree, true claims": "Replies agree, true claims",
    "four-choice margin": "Four-choice items",
    "perplexity, prose": "Perplexity of prose",
    "KL from base, prose": "KL from the base, prose",
    "refusing benign prompts": "Refusing benign prompts",
    "repetition, open questions": "Repetition in open replies",
    "harmful answers, second categories": "Harmful answers",
}
# Okabe and Ito's colours, each with its own marker and line
_SERIES = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"))
_SHIFT = 0.06  # hosts side by side where they coincide


def draw_profile(table: list[dict[str, Any]], path: Path, *, caption: str) -> list[Path]:
    """Draw `numbers["table"]` of an evaluation; writes PNG and SVG and returns their paths.

    Points are means with their intervals; where there are several gate sets, each one's mean is a small tick beside
    them. Panels without any value are said to be so. Raises `DataError` for a table without known lines.
    """
    hosts = list(dict.fromkeys(entry["host"] for entry in table))
    lines = [name for name in PANELS if any(entry["line"] == name for entry in table)]
    if not lines or len(hosts) > len(_SERIES):
        raise DataError("the table cannot be drawn", got=f"{len(lines)} known lines, {len(hosts)} hosts")
    rows = -(-len(lines) // 3)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, 3, figsize=(9.2, 2.15 * rows + 0.9), sharex=True, squeeze=False)
        try:
            for panel, name in zip(axes.flat, lines, strict=False):
                _panel(panel, name, [e for e in table if e["line"] == name and e["subset"] == "all"], hosts)
            for panel in axes.flat[len(lines) :]:
                panel.set_visible(False)
            for panel in axes[-1]:
                panel.set_xlabel("Gate strength s")
            handles, labels = axes.flat[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="lower center", ncols=len(hosts), bbox_to_anchor=(0.5, 0.045))
            figure.text(0.01, 0.006, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.075, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _panel(axes: Any, name: str, entries: list[dict[str, Any]], hosts: list[str]) -> None:
    role = next((entry["role"] for entry in entries), "other")
    note = {"wanted": " (wanted)", "unwanted": " (unwanted)"}.get(role, "")
    axes.set_title(PANELS[name] + note, fontsize=8, loc="left")
    unit = entries[0]["unit"]
    axes.set_ylabel(unit)
    if unit == "share":
        axes.set_ylim(-0.04, 1.04)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":", zorder=0)
    if unit in ("nats", "nats/token"):
        axes.axhline(0, color="black", linewidth=0.5, alpha=0.4, zorder=0)
    drawn = False
    for k, host in enumerate(hosts):
        colour, marker, line = _SERIES[k]
        points = sorted(
            (e for e in entries if e["host"] == host and e["level"] is not None), key=lambda e: e["strength"]
        )
        if not points:
            continue
        drawn = True
        x = [p["strength"] + _SHIFT * (k - (len(hosts) - 1) / 2) for p in points]
        level = [p["level"] for p in points]
        bars = [[e["value"] - e["low"] for e in level], [e["high"] - e["value"] for e in level]]
        axes.errorbar(
            x,
            [e["value"] for e in level],
            yerr=bars,
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=4,
            linewidth=0.9,
            elinewidth=1.3,
            label=f"{host} with gates" if host != "base" else "Base model with gates",
        )
        for place, point in zip(x, points, strict=True):
            for value in point["seeds"].values():
                axes.plot([place - 0.1, place - 0.05], [value, value], color=colour, linewidth=1)
    if not drawn:
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", color="#666666")
