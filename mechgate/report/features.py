"""Feature overlap drawn: what gates do to latents against what marks unsafe prompts, and the overlap beside its nulls."""

import html
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

from mechgate.errors import DataError
from mechgate.provenance import write_text
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

_SETS = {
    "neither": ("neither", NULL_COLOUR, ".", 10),
    "moved": ("moved by the gates", "#0072B2", "o", 22),
    "marked": ("separates false from true", "#D55E00", "s", 22),
    "both": ("both", "#000000", "*", 70),
}
_STATISTICS = ("jaccard", "rank-biased overlap", "span overlap")
_KINDS = {"gates": ("#0072B2", "o"), "nulls": (NULL_COLOUR, "x"), "controls": ("#009E73", "^")}


def draw_features(numbers: dict[str, Any], path: Path, *, caption: str, mark: str = "false minus true") -> list[Path]:
    """a: every latent of the first SAE, moved by the first gate set against separating claims; b: overlap statistics of gate
    sets, nulls and controls with the latents of `mark`, for each SAE, with what permutation expects. PNG and SVG.

    Raises `DataError` for numbers without SAEs or without that mark.
    """
    saes = numbers.get("saes", {})
    if not saes or any(mark not in one["marked"] for one in saes.values()):
        raise DataError("feature overlap cannot be drawn", got=f"{len(saes)} SAEs, mark {mark!r}")
    first = next(iter(saes.values()))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 1 + len(_STATISTICS), figsize=(12.4, 4.9), width_ratios=[1.7, 1, 1, 1])
        try:
            _scatter(axes[0], first["scatter"])
            for panel, statistic in zip(axes[1:], _STATISTICS, strict=True):
                _overlap(panel, numbers, statistic, mark)
            axes[1].set_title("b  Overlap, with what is expected of latents alike", loc="left", fontweight="bold")
            for ax, columns, x in ((axes[0], 2, 0.21), (axes[1], 4, 0.72)):
                handles, labels = ax.get_legend_handles_labels()
                figure.legend(handles, labels, loc="lower center", ncols=columns, bbox_to_anchor=(x, 0.1), fontsize=8)
            figure.text(0.01, 0.01, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.21, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def write_latents(numbers: dict[str, Any], path: Path) -> Path:
    """The shared latents with the texts they are active in, as a plain HTML page; everything from texts is escaped."""
    first = next(iter(numbers["saes"].values()))
    rows = []
    for one in first.get("shared", []):
        quotes = "".join(
            f"<li>{html.escape(c['before'])}<mark>{html.escape(c['token'])}</mark>{html.escape(c['after'])} "
            f"<small>({c['activation']:.2f})</small></li>"
            for c in one["contexts"]
        )
        quotes = quotes or "<li>active in none of the neutral texts</li>"
        cells = f"<td>{one['latent']}</td><td>{one['moved']:+.3f}</td><td>{one['false minus true']:+.3f}</td>"
        rows.append(f"<tr>{cells}<td><ul>{quotes}</ul></td></tr>")
    body = "".join(rows) or "<tr><td colspan='4'>No latent is in both sets.</td></tr>"
    head = "<th>Latent</th><th>Moved by the gates</th><th>False minus true</th><th>Most active at</th>"
    style = "body{font:14px sans-serif;margin:2em}td,th{vertical-align:top;text-align:left;padding:.3em 1em}"
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Shared latents</title><style>{style}</style>"
        f"</head><body><h1>Latents that the gates move and that tell false from true claims</h1><table><tr>{head}</tr>"
        f"{body}</table></body></html>\n"
    )
    write_text(path, page)
    return path


def _scatter(axes: Any, points: list[dict[str, Any]]) -> None:
    for name, (label, colour, mark, size) in _SETS.items():
        chosen = [p for p in points if p["set"] == name]
        axes.scatter(
            [p["marked"] for p in chosen],
            [p["moved"] for p in chosen],
            marker=mark,
            s=size,
            color=colour,
            label=f"{label} ({len(chosen)})",
            alpha=0.5 if name == "neither" else 0.9,
            linewidths=0,
            zorder=2 if name == "neither" else 3,
        )
    axes.axhline(0, color=NULL_COLOUR, linewidth=0.7)
    axes.axvline(0, color=NULL_COLOUR, linewidth=0.7)
    # A few latents are far larger than the rest: linear near 0, logarithmic beyond.
    spread = sorted(abs(p[k]) for p in points for k in ("moved", "marked") if p[k])
    if spread:
        threshold = max(spread[len(spread) // 2], 1e-6)
        axes.set_xscale("symlog", linthresh=threshold)
        axes.set_yscale("symlog", linthresh=threshold)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
    axes.set_title("a  Latents", loc="left", fontweight="bold")
    axes.set_xlabel("Activation, false minus true claims")
    axes.set_ylabel("Activation, gated minus base")
    axes.tick_params(labelsize=7)


def _overlap(panel: Any, numbers: dict[str, Any], statistic: str, mark: str) -> None:
    names = list(numbers["saes"])
    for row, name in enumerate(names):
        table = numbers["saes"][name]["overlap"]
        there = {arm: found[mark][statistic] for arm, found in table.items() if found[mark][statistic] is not None}
        if not there:
            panel.text(
                0.5, row, "an empty set", transform=panel.get_yaxis_transform(), ha="center", va="center", fontsize=8
            )
        for kind, (colour, style) in _KINDS.items():
            values = [found["value"] for arm, found in there.items() if _kind(numbers, arm) == kind]
            shift = {"gates": -0.18, "nulls": 0.0, "controls": 0.18}[kind]
            label = {"gates": "gate sets", "nulls": "null gates", "controls": "control gates"}[kind]
            panel.scatter(
                values, [row + shift] * len(values), color=colour, marker=style, s=26, label=label if not row else None
            )
        for arm, found in there.items():
            if arm in numbers["gates"]:
                panel.plot(
                    [found["expected"], found["high"]], [row - 0.34] * 2, color="#000000", linewidth=0.9, alpha=0.6
                )
    panel.plot([], [], color="#000000", linewidth=0.9, label="expected to 95%, permuted")
    panel.set_yticks(range(len(names)), names if statistic == _STATISTICS[0] else [""] * len(names))
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel(statistic.capitalize())
    panel.margins(x=0.1)


def _kind(numbers: dict[str, Any], arm: str) -> str:
    if arm in numbers["gates"]:
        return "gates"
    return "nulls" if arm.startswith("row-sign") or arm == "dampener" else "controls"
