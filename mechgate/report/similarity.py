"""The similarity analysis drawn and told: curves over layers with ceilings and null bands, RDMs, and outcomes in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine
from rich.console import Console
from rich.table import Table

from mechgate.errors import DataError
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure
from mechgate.report.verdicts import shown

# name -> (colour, marker, line style); Okabe and Ito's
_LINES = {
    "unsafe": ("#D55E00", "s", "-"),
    "safe": ("#009E73", "^", "--"),
    "before": ("#000000", "o", "-"),
    "after": ("#0072B2", "D", "--"),
    "third": ("#CC79A7", "v", ":"),
    "fourth": ("#E69F00", "x", "-."),
}
_CHANGES = {
    "size": "‖Δh‖/‖h‖",
    "beyond": "‖Δh‖/‖h‖ after common scaling",
    "rows": "1 − Spearman of RDM rows",
}
_LAYER = "Layer"


def draw_similarity(numbers: dict[str, Any], folder: Path, *, name: str = "similarity", told: str = "") -> list[Path]:
    """Draw every contrast of `representation.similarity`: layer curves at each strength, and one RDM panel a condition.

    Files are FOLDER/NAME-DESIGN-POSITION-sSTRENGTH and NAME-DESIGN-POSITION-rdms, as PNG and SVG; their paths are
    returned. `told` begins each caption (the model's name). Raises `DataError` for numbers without contrasts.
    """
    if not numbers.get("contrasts"):
        raise DataError("there is nothing to draw", got="no contrasts")
    written = []
    for contrast in numbers["contrasts"]:
        stem = f"{name}-{contrast['design']}-{contrast['position']}"
        for entry in contrast["strengths"]:
            path = folder / f"{stem}-s{entry['strength']:+g}.png"
            written += _curves(contrast, entry, numbers["layers"], path, told)
        written += _rdms(contrast, numbers["layers"], folder / f"{stem}-rdms.png", told)
    return written


def print_similarity(numbers: dict[str, Any], folder: Path, console: Console | None = None) -> None:
    """Outcomes of every contrast and strength: the differences of differences, and what became of the knowledge."""
    out = console or Console(highlight=False)
    for contrast in numbers["contrasts"]:
        where = f"{contrast['design']} at {contrast['position']}"
        table = Table(title=f"{where}: change on unsafe minus change on safe prompts", title_justify="left")
        for column in ("s", "measure", "difference", "share of change", "p", "outcome"):
            table.add_column(column, justify="left" if column in ("measure", "outcome") else "right")
        for entry in contrast["strengths"]:
            for name, change in entry["changes"].items():
                share = "-" if change["share"] is None else shown(change["share"])
                overall = change["overall"]
                cells = [_CHANGES[name], shown(overall, 4), share, f"{overall['p']:.2g}", change["outcome"]]
                table.add_row(f"{entry['strength']:+g}", *cells)
        out.print(table)
        for entry in contrast["strengths"]:
            for task, found in entry["probes"]["tasks"].items():
                text = f"s = {entry['strength']:+g}, {task} probe: {found['outcome']} (accuracy − .5: {shown(found['base'])}"
                out.print(f"  {text}, change {shown(found['change'])})", markup=False, soft_wrap=True)
            if entry["behaviour"]:
                sides = (f"{side} {shown(entry['behaviour'][side])}" for side in ("unsafe", "safe"))
                out.print(f"  s = {entry['strength']:+g}, change of the stance margin, nats: {', '.join(sides)}")
    for rival, why in numbers["unmatched"].items():
        out.print(f"No equal dose of {rival}: {why}", markup=False, soft_wrap=True)
    if numbers["plan_changed"]:
        out.print("The plan was changed after something had been measured under an earlier one: prereg-*.yaml.")
    out.print(f"similarity.json, prereg.yaml and everything kept: {folder}", markup=False, soft_wrap=True)


def _curves(
    contrast: Mapping[str, Any], entry: Mapping[str, Any], layers: Sequence[int], path: Path, told: str
) -> list[Path]:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(10.4, 7.0), sharex=True)
        try:
            (size, rows, cka), (geometry, kept, probes) = axes
            _change(size, layers, entry["changes"]["size"], _CHANGES["size"])
            _difference(rows, layers, entry["changes"]["rows"])
            _cka(cka, layers, entry["cka"])
            _geometry(geometry, layers, entry["geometry"])
            _kept(kept, layers, entry["geometry"])
            _probes(probes, layers, entry["probes"])
            titles = ("Size of the change", "RSA: unsafe minus safe", "CKA with no gates")
            titles += ("RSA: model of the side", "RSA: no gates and gated", "Linear probes of the side")
            for letter, panel, title in zip("abcdef", axes.flat, titles, strict=True):
                panel.set_title(f"{letter}  {title}", loc="left", fontweight="bold", fontsize=9)
                handles, labels = panel.get_legend_handles_labels()
                panel.legend(
                    handles, labels, fontsize=6.8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2,
                    handlelength=2.6, columnspacing=1.0,
                )  # fmt: skip
            for panel in axes.flat:
                panel.set_xlabel(_LAYER, labelpad=1)
                panel.tick_params(labelbottom=True)
            return _finished(figure, _caption(contrast, entry, told), path)
        finally:
            plt.close(figure)


def _caption(contrast: Mapping[str, Any], entry: Mapping[str, Any], told: str) -> str:
    rivals = entry["changes"]["rows"]["rivals"]
    n_null, n_control = len(rivals["null"]), len(rivals["control"])
    seeds = len(entry["changes"]["rows"]["seeds"])
    texts = (
        f"{told}{contrast['design']} at {contrast['position']}, s = {entry['strength']:+g}; {contrast['facts']} facts x "
        f"{contrast['phrasings']} wordings x 2 sides; gate seeds: {seeds}. Grey: range of {n_null} null and {n_control} "
        "control gate sets at equal KL.",
        "b: 95% intervals over facts and seeds; filled: max-T p ≤ .05 over layers. Outcome: "
        f"{entry['changes']['rows']['outcome']}. d: rho-a with the model, and partial rank correlation given domain, phrasing,",
        "length; stars: p ≤ .05 over layers by swapping sides within facts; yellow: noise ceiling over disjoint facts "
        "(a two-valued model stays below 1). e: ceiling over gate seeds.",
        "f: by facts held out; transfer: probes fitted without gates.",
    )
    return "\n".join(texts).replace("= -", "= −")


def _line(axes: Any, x: Sequence[int], y: Sequence[float], style: str, label: str, **more: Any) -> None:
    colour, marker, line = _LINES[style]
    axes.plot(x, y, color=colour, marker=marker, linestyle=line, markersize=3, linewidth=1, label=label, **more)


def _band(axes: Any, x: Sequence[int], curves: Sequence[Sequence[float]], label: str = "Nulls and controls") -> None:
    if curves:
        low, high = np.min(curves, axis=0), np.max(curves, axis=0)
        axes.fill_between(x, low, high, color=NULL_COLOUR, alpha=0.45, linewidth=0.8, edgecolor="#555555", label=label)


def _change(axes: Any, x: Sequence[int], change: Mapping[str, Any], label: str) -> None:
    for side in ("unsafe", "safe"):
        _line(axes, x, change[side], side, f"{side.capitalize()} prompts")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)


def _difference(axes: Any, x: Sequence[int], change: Mapping[str, Any]) -> None:
    _band(axes, x, [one["difference"] for group in change["rivals"].values() for one in group.values()])
    values = np.array([one["value"] for one in change["difference"]])
    ends = np.array([[one["low"], one["high"]] for one in change["difference"]])
    colour, marker, _ = _LINES["after"]
    bars = np.abs(ends.T - values)
    axes.errorbar(x, values, yerr=bars, color=colour, linewidth=1, elinewidth=0.9, label="Gates")
    for clear in (True, False):
        here = (np.array(change["p"]) <= 0.05) == clear
        face = colour if clear else "white"
        axes.plot(np.array(x)[here], values[here], marker, color=face, markeredgecolor=colour, markersize=3.5, zorder=4)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_ylabel("Difference of changes\n(1 − Spearman of RDM rows)")


def _cka(axes: Any, x: Sequence[int], cka: Mapping[str, Any]) -> None:
    plain = cka["plain"]["all"]
    _band(axes, x, [curve for kind in ("null", "control") for curve in plain[kind].values()])
    variants = {"plain": "before", "z-scored": "after", "without top 1": "third", "without top 5": "fourth"}
    for variant, style in variants.items():
        curves = list(cka[variant]["all"]["gates"].values())
        _line(axes, x, np.mean(curves, axis=0).tolist(), style, variant.capitalize())
    axes.set_ylabel("Debiased linear CKA")


def _geometry(axes: Any, x: Sequence[int], geometry: Mapping[str, Any]) -> None:
    low, high = np.array(geometry["ceiling"]["before"]).T
    axes.fill_between(x, low, high, color="#F0E442", alpha=0.6, linewidth=0, label="Ceiling, no gates")
    side = geometry["models"]["crossnobis"]["side"]
    _line(axes, x, side["before"], "before", "No gates")
    _line(axes, x, side["after"], "after", "Gated")
    _line(axes, x, side["partial"]["before"], "third", "Partial, no gates")
    _line(axes, x, side["partial"]["after"], "fourth", "Partial, gated")
    for when, name in (("before", "before"), ("after", "after")):
        found = geometry["swap p, all layers"][when]
        if found:
            p = np.array(found) if when == "before" else np.max(list(found.values()), axis=0)
            here = p <= 0.05
            axes.plot(np.array(x)[here], np.array(side[when])[here], "*", color=_LINES[name][0], markersize=6, zorder=4)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_ylabel("Correlation with RDM (crossnobis)")


def _kept(axes: Any, x: Sequence[int], geometry: Mapping[str, Any]) -> None:
    if geometry["ceiling"]["after"]:
        low, high = np.array(geometry["ceiling"]["after"]).T
        axes.fill_between(x, low, high, color="#F0E442", alpha=0.6, linewidth=0, label="Ceiling, gate seeds")
    _line(axes, x, geometry["kept"], "after", "RDMs, no gates and gated")
    axes.set_ylabel("rho-a (squared Euclidean)")


def _probes(axes: Any, x: Sequence[int], probes: Mapping[str, Any]) -> None:
    _band(axes, x, [curve for group in probes["rivals"].values() for curve in group.values()])
    tasks = probes["tasks"]
    _line(axes, x, tasks["side"]["before"], "before", "No gates")
    _line(axes, x, tasks["side"]["after"], "after", "Gated")
    _line(axes, x, tasks["side transfer"]["after"], "third", "Transfer to gated")
    if "facts" in probes["selectivity"]:
        _line(axes, x, probes["selectivity"]["facts"]["after"]["control"], "fourth", "Control task")
    axes.axhline(0.5, color="black", linewidth=0.5)
    axes.set_ylabel("Accuracy on held-out facts")


def _rdms(contrast: Mapping[str, Any], layers: Sequence[int], path: Path, told: str) -> list[Path]:
    """The conditions' RDM without gates and at each strength, on one scale."""
    cells = contrast["strengths"][0]["geometry"]["cells"]
    panels = {"No gates": contrast["strengths"][0]["geometry"]["panels"]["before"]}
    panels |= {
        f"s = {e['strength']:+g}".replace("-", "−"): e["geometry"]["panels"]["after"] for e in contrast["strengths"]
    }
    n, most = len(cells), max(max(vector) for vector in panels.values())
    if any(len(vector) != n * (n - 1) // 2 for vector in panels.values()):
        raise DataError("an RDM does not fit its conditions", got=f"{n} conditions")
    # Sides first, so that a difference between them is a block; within a side by domain.
    order = sorted(range(n), key=lambda i: (cells[i].split(" / ")[2] != "unsafe", i))
    names = [" / ".join(cells[i].split(" / ")[:2]) for i in order]
    style = {**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, len(panels), figsize=(2.0 + 3.0 * len(panels), 4.4), squeeze=False, sharey=True)
        try:
            mesh: Any = None
            for letter, panel, (title, vector) in zip("abcdefghijklm", axes[0], panels.items(), strict=False):
                whole = np.zeros((n, n))
                whole[np.triu_indices(n, 1)] = vector
                whole = (whole + whole.T)[np.ix_(order, order)]
                mesh = panel.pcolormesh(whole, cmap="viridis", vmin=0, vmax=most or 1.0)
                panel.set_aspect("equal")
                panel.set_ylim(n, 0)
                for line in (panel.axhline, panel.axvline):
                    line(n / 2, color="white", linewidth=1.2)
                panel.set_title(f"{letter}  {title}", loc="left", fontweight="bold")
                panel.set_xticks([n / 4, 3 * n / 4], ["unsafe", "safe"])
                panel.set_yticks(np.arange(n) + 0.5, names, fontsize=5.2)
                panel.tick_params(length=0)
            bar = figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.02, shrink=0.75)
            bar.set_label("Squared distance a dimension (SD² without gates)", fontsize=7.5)
            bar.ax.tick_params(labelsize=7.5, length=2)
            bar.outline.set_linewidth(0.5)
            seeds = len(contrast["strengths"][0]["changes"]["rows"]["seeds"])
            caption = (
                f"{told}{contrast['design']} at {contrast['position']}, layer {layers[contrast['panel']]} (two thirds of the "
                f"depth, fixed beforehand);\nconditions are means over facts ({contrast['facts']} in all), gated ones over "
                f"gate seeds ({seeds}) too. Rows as columns: unsafe above, safe below."
            )
            return _finished(figure, caption, path)
        finally:
            plt.close(figure)


def _finished(figure: Any, caption: str, path: Path) -> list[Path]:
    height = figure.get_figheight()
    below = (0.16 * (caption.count("\n") + 1) + 0.15) / height
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.008, below, 0.984, 1 - below)))
    figure.text(0.01, 0.08 / height, caption, fontsize=7.2, color="#333333", va="bottom")
    return save_figure(figure, path)
