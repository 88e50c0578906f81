"""Figures of a selectivity analysis: dose-response with bands, the efficacy-damage plane, null histograms."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mechgate.errors import DataError
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

WANTED, UNWANTED = "#0072B2", "#D55E00"
SIDES = {"wanted": (WANTED, "o", "-"), "unwanted": (UNWANTED, "s", "--")}
CONTROL_MARKS = ("^", "v", "D", "P", "X", "<", ">", "*")
CONTROL_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#555555", "#999933", "#332288")
_MARKER = 5


def draw_dose(context: dict[str, Any], path: Path, *, names: tuple[str, str], caption: str) -> list[Path]:
    """Change of both sides over strength with the gates of every seed, null and control bands; odd and even parts.

    `context` is `numbers["contexts"]["base"]`, `names` what the wanted and the unwanted side are. PNG and SVG.
    """
    curves, plane = context["curves"], context["plane"]
    with plt.rc_context(STYLE):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.8, 4.4), width_ratios=(1, 1, 0.72))
        try:
            for axes, side, name, letter in zip((left, middle), SIDES, names, "ab", strict=True):
                _dose_panel(axes, side, curves[side], plane)
                axes.set_title(f"{letter}  {name}", loc="left", fontweight="bold")
            low = min(left.get_ylim()[0], middle.get_ylim()[0])
            high = max(left.get_ylim()[1], middle.get_ylim()[1])
            for axes in (left, middle):
                axes.set_ylim(low, high)
                axes.set_xlabel("Gate strength s")
            left.set_ylabel("Change of stance margin (nats)")
            _parts_panel(right, curves, names)
            right.set_title("c  Odd and even parts", loc="left", fontweight="bold")
            legend(figure, (left, middle, right), columns=4, y=0.085)
            figure.text(0.01, 0.008, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.27, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _dose_panel(axes: Any, side: str, curve: dict[str, Any], plane: dict[str, Any]) -> None:
    colour, marker, line = SIDES[side]
    if plane["row-sign nulls"]:
        _band(axes, plane["row-sign nulls"], side, NULL_COLOUR, 0.6, "Row-sign nulls, range")
    tasks = list(dict.fromkeys(point["task"] for point in plane["controls"]))
    for k, task in enumerate(tasks):
        points = [p for p in plane["controls"] if p["task"] == task]
        strengths = sorted({p["strength"] for p in points})
        mean = {s: [p[side] for p in points if p["strength"] == s] for s in strengths}
        x = [*[s for s in strengths if s < 0], 0.0, *[s for s in strengths if s > 0]]
        y = [sum(mean[s]) / len(mean[s]) if s else 0.0 for s in x]
        mark = dict(marker=CONTROL_MARKS[k % 8], color=CONTROL_COLOURS[k % 8], markersize=_MARKER - 1, linewidth=0.9)
        axes.plot(x, y, linestyle=":", label=f"Control: {task}", **mark)
    points = [{"strength": 0.0, "change": {"value": 0.0, "low": 0.0, "high": 0.0}}, *curve["points"]]
    points.sort(key=lambda p: p["strength"])
    level = [p["change"] for p in points]
    bars = [[e["value"] - e["low"] for e in level], [e["high"] - e["value"] for e in level]]
    axes.errorbar(
        [p["strength"] for p in points],
        [e["value"] for e in level],
        yerr=bars,
        color=colour,
        marker=marker,
        linestyle=line,
        markersize=_MARKER,
        linewidth=1.6,
        label="Learned gates, wanted side" if side == "wanted" else "Learned gates, unwanted side",
        zorder=5,
    )
    axes.axhline(0, color="black", linewidth=0.5, alpha=0.5, zorder=0)
    axes.axvline(0, color="black", linewidth=0.5, alpha=0.5, zorder=0)


def _band(axes: Any, points: list[dict[str, Any]], side: str, colour: str, alpha: float, label: str) -> None:
    """The range over gate sets at the strengths that were measured, through 0 at strength 0."""
    values: dict[float, list[float]] = {0.0: [0.0]}
    for point in points:
        values.setdefault(point["strength"], []).append(point[side])
    x = sorted(values)
    low, high = [min(values[s]) for s in x], [max(values[s]) for s in x]
    axes.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0, label=label, zorder=1)


def _parts_panel(axes: Any, curves: dict[str, Any], names: tuple[str, str]) -> None:
    for (side, (colour, marker, _)), name in zip(SIDES.items(), names, strict=True):
        for part, line, fill in (("odd", "-", colour), ("even", ":", "white")):
            x = [p["strength"] for p in curves[side][part]]
            y = [p["part"] for p in curves[side][part]]
            label = f"{part.capitalize()} part, {name[0].lower()}{name[1:]}"
            axes.plot(
                x, y, color=colour, marker=marker, linestyle=line, markersize=_MARKER, markerfacecolor=fill, label=label
            )
    axes.axhline(0, color="black", linewidth=0.5, alpha=0.5, zorder=0)
    axes.set_xlabel("|s|")
    axes.set_ylabel("Nats")


def draw_plane(
    context: dict[str, Any], strength: float, path: Path, *, names: tuple[str, str], caption: str
) -> list[Path]:
    """The efficacy-damage plane at `strength`, each gate set a point: at equal RMS(g - 1), and at equal neutral KL.

    The line A = E is a gate that spares nothing (sigma = 0), A = E/2 the bound of the verdict. A panel without nulls and
    controls (none could be matched) says so. PNG and SVG.
    """
    plane, equal = context["plane"], context["equal dose"]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 5.4), sharex=True, sharey=True)
        try:
            cloud = [
                (e, a)
                for entry in context["nulls"]["families"].values()
                for one in entry["exact"].values()
                if "wanted" in one
                for e, a in zip(one["wanted"], one["unwanted"], strict=True)
            ]
            if cloud:
                left.scatter(
                    *zip(*cloud, strict=True), s=9, color=NULL_COLOUR, alpha=0.5, linewidth=0, label="Null gates"
                )
            doses = [(s["wanted"], s["unwanted"]) for one in equal["nulls"].values() for s in one["sets"]]
            if doses:
                right.scatter(*zip(*doses, strict=True), s=14, color=NULL_COLOUR, alpha=0.8, linewidth=0)
            at = [p for p in plane["controls"] if p["strength"] == strength]
            for k, task in enumerate(dict.fromkeys(p["task"] for p in at)):
                mark: dict[str, Any] = dict(
                    marker=CONTROL_MARKS[k % 8], color=CONTROL_COLOURS[k % 8], s=30, linewidth=0
                )
                _points(left, [p for p in at if p["task"] == task], mark, f"Control: {task}")
                _points(right, equal["controls"][task]["sets"], mark, None)
            own = [p for p in plane["gates"] if p["strength"] == strength]
            mark = dict(marker="o", s=48, facecolor="none", edgecolor=WANTED, linewidth=1.6, zorder=5)
            for axes in (left, right):
                _points(axes, own, mark, "Learned gates, each seed" if axes is left else None)
            if not any(one["sets"] for group in equal.values() for one in group.values()):
                right.text(0.5, 0.94, "no null or control could be matched", transform=right.transAxes, ha="center")
            sigma_lines(left, right)
            left.set_title(f"a  At s = {strength:+g}", loc="left", fontweight="bold")
            right.set_title("b  At equal KL from the base on neutral text", loc="left", fontweight="bold")
            left.set_ylabel(f"Damage A: change, {names[1][0].lower()}{names[1][1:]} (nats)")
            for axes in (left, right):
                axes.set_xlabel(f"Efficacy E: change, {names[0][0].lower()}{names[0][1:]} (nats)")
            legend(figure, (left, right), columns=4, y=0.075)
            figure.text(0.01, 0.008, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.22, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _points(axes: Any, points: list[dict[str, Any]], mark: dict[str, Any], label: str | None) -> None:
    if points:
        axes.scatter([p["wanted"] for p in points], [p["unwanted"] for p in points], label=label, **mark)


def sigma_lines(*panels: Any) -> None:
    """The lines of equal sigma through the data's range, in every panel."""
    low = min(0.0, *(axes.get_xlim()[0] for axes in panels))
    high = max(0.0, *(axes.get_xlim()[1] for axes in panels))
    for axes in panels:
        for share, line, label in ((1.0, "-", "A = E: spares nothing"), (0.5, "--", "A = E/2: bound of the verdict")):
            axes.plot(
                [low, high],
                [share * low, share * high],
                color="black",
                linewidth=0.8,
                linestyle=line,
                label=label,
                zorder=0,
            )
        axes.axhline(0, color="black", linewidth=0.5, alpha=0.5, zorder=0)
        axes.axvline(0, color="black", linewidth=0.5, alpha=0.5, zorder=0)


def draw_nulls(nulls: dict[str, Any], path: Path, *, caption: str) -> list[Path]:
    """A histogram a null family of the wanted side's change: screened as an outline, exact draws as bars, the learned
    gates as a line; p-values of coherence in the titles. PNG and SVG. Raises `DataError` without any family."""
    families = {
        name: e for name, e in nulls["families"].items() if _exact(e) or "histogram" in (e.get("screened") or {})
    }
    if not families:
        raise DataError("there are no null gates to draw")
    rows = -(-len(families) // 4)
    with plt.rc_context(STYLE):
        height = 1.75 * rows + 1.25  # inches, like the places below the panels
        figure, axes = plt.subplots(rows, 4, figsize=(9.8, height), squeeze=False)
        try:
            for panel, (name, entry) in zip(axes.flat, families.items(), strict=False):
                _null_panel(panel, name, entry, nulls["learned"])
            for panel in axes.flat[len(families) :]:
                panel.set_visible(False)
            legend(figure, tuple(axes.flat[: len(families)]), columns=4, y=0.42 / height)
            figure.supxlabel("Change of stance margin, wanted side (nats)", fontsize=9, y=0.95 / height)
            figure.text(0.01, 0.008, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 1.12 / height, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _exact(entry: dict[str, Any]) -> list[float]:
    return [value for one in entry["exact"].values() if "wanted" in one for value in one["wanted"]]


def _null_panel(axes: Any, name: str, entry: dict[str, Any], learned: list[dict[str, Any]]) -> None:
    exact, screened = _exact(entry), entry.get("screened") or {}
    if len(exact) > 5:
        axes.hist(exact, bins=24, density=True, color=NULL_COLOUR, alpha=0.8, label="Null gates, exact")
    else:
        for k, value in enumerate(exact):
            axes.axvline(
                value, color=NULL_COLOUR, linewidth=2, label="Null gates, exact (one a seed)" if k == 0 else None
            )
    if "histogram" in screened:
        counts, edges = screened["histogram"]["counts"], screened["histogram"]["edges"]
        width = edges[1] - edges[0]
        density = [c / (sum(counts) * width) for c in counts]
        axes.stairs(density, edges, color="black", linewidth=0.9, label="Null gates, first order")
        first = screened["learned"]["wanted"]
        axes.axvline(first, color=UNWANTED, linestyle="--", linewidth=1.2, label="Learned gates, first order")
    for k, point in enumerate(learned):
        axes.axvline(
            point["wanted"],
            color=WANTED,
            linewidth=1.2,
            label="Learned gates, exact (a line a seed)" if k == 0 else None,
        )
    fit = screened.get("agreement")
    notes = [f"{len(exact)} exact" if exact else "", f"r = {fit['r']:.2f}" if fit else ""]
    p = [
        f"p = {v:.2g} {what}"
        for v, what in ((_first_p(entry), "exact"), (screened.get("p"), "screened"))
        if v is not None
    ]
    axes.set_title("\n".join([name, ", ".join(filter(None, notes)), "; ".join(p)]).rstrip(), fontsize=7.5, loc="left")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _first_p(entry: dict[str, Any]) -> float | None:
    return next((one["p"] for one in entry["exact"].values() if one.get("p") is not None), None)


def legend(figure: Any, panels: tuple[Any, ...], *, columns: int, y: float) -> None:
    """One legend below all panels, each label once; `y` is where it ends, a share of the figure's height."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()), list(found), loc="lower center", ncols=columns, bbox_to_anchor=(0.5, y), fontsize=8
    )
