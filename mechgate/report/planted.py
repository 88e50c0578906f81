"""How well methods find planted truth: AUROC with intervals, a row a method, and ROC curves. Draws numbers, computes nothing."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mechgate.errors import DataError
from mechgate.report.figures import NULL_COLOUR, STYLE, save_figure

# kind of truth -> (colour, marker)
_KINDS = {
    "planted hosts, gates": ("#0072B2", "o"),
    "planted hosts, weights": ("#D55E00", "s"),
    "known circuit": ("#009E73", "^"),
    "planted gates": ("#CC79A7", "D"),
}
_LINES = (
    ("#000000", "o", "-"),
    ("#0072B2", "s", "-"),
    ("#D55E00", "^", "--"),
    ("#009E73", "D", "--"),
    ("#CC79A7", "v", ":"),
    ("#E69F00", "P", ":"),
)
_SHIFT = 0.17


def draw_planted(numbers: dict[str, Any], path: Path, *, caption: str, curves: list[str] | None = None) -> list[Path]:
    """a: AUROC of each method on each kind of truth, mean and 95% interval (dotted: chance); rows by the mean over planted hosts. b: mean ROC
    curves on hosts planted in weights (else the first kind) of `curves` (default: the methods at places spread over the order).

    PNG and SVG. Raises `DataError` for numbers without rows, and for curves of methods that are not there.
    """
    kinds = [kind for kind in _KINDS if kind in numbers.get("rows", {})]
    if not kinds:
        raise DataError("there are no rows to draw", got=sorted(numbers))
    methods = _order(numbers["rows"], kinds)
    of = "planted hosts, weights" if "planted hosts, weights" in kinds else kinds[0]
    there = [m for m in methods if m in numbers["rows"][of]]
    chosen = curves or [there[round(i * (len(there) - 1) / 5)] for i in range(min(6, len(there)))]
    chosen = list(dict.fromkeys(chosen))[: len(_LINES)]
    if lost := [m for m in chosen if m not in there]:
        raise DataError("methods without a curve", got=lost, allowed=there)
    height = 0.27 * len(methods) + 1.9
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, height), width_ratios=[1.25, 1])
        try:
            _dots(left, numbers["rows"], kinds, methods)
            _curves(right, numbers["rows"][of], numbers["grid"], chosen, of)
            handles, labels = left.get_legend_handles_labels()
            below = (0.16 * (caption.count("\n") + 1) + 0.15) / height
            figure.legend(
                handles, labels, loc="lower left", ncols=len(kinds), bbox_to_anchor=(0.01, below), fontsize=8.5
            )
            figure.text(0.01, 0.01, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0.012, below + 0.3 / height, 1, 1), w_pad=2)
            return save_figure(figure, path)
        finally:
            plt.close(figure)


def _order(rows: dict[str, Any], kinds: list[str]) -> list[str]:
    """Methods by their mean AUROC on planted hosts; those of other kinds alone last."""
    names = list(dict.fromkeys(method for kind in kinds for method in rows[kind]))
    hosts = [kind for kind in kinds if kind.startswith("planted hosts")]

    def mean(method: str) -> tuple[bool, float]:
        own = [rows[kind][method]["auroc"]["value"] for kind in hosts if method in rows[kind]]
        rest = [rows[kind][method]["auroc"]["value"] for kind in kinds if method in rows[kind]]
        return (not own, -sum(own or rest) / len(own or rest))

    return sorted(names, key=mean)


def _dots(axes: Any, rows: dict[str, Any], kinds: list[str], methods: list[str]) -> None:
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":", zorder=0)
    for place in range(0, len(methods), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=NULL_COLOUR, alpha=0.1, linewidth=0, zorder=0)
    for i, kind in enumerate(kinds):
        colour, marker = _KINDS[kind]
        n = next(iter(rows[kind].values()))["n"]
        for j, method in enumerate(m for m in methods if m in rows[kind]):
            one = rows[kind][method]["auroc"]
            y = methods.index(method) + (i - (len(kinds) - 1) / 2) * _SHIFT
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [y, y], color=colour, linewidth=1.2)
            label = f"{kind[0].upper()}{kind[1:]} (n = {n})" if not j else None
            axes.plot(one["value"], y, color=colour, marker=marker, markersize=4.5, linestyle="none", label=label)
    axes.set_yticks(range(len(methods)), methods, fontsize=7.5)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("AUROC of finding the heads (0.5: chance)")
    axes.set_title("a  How well each method ranks the true heads", loc="left", fontweight="bold")


def _curves(axes: Any, rows: dict[str, Any], grid: list[float], chosen: list[str], of: str) -> None:
    axes.plot([0, 1], [0, 1], color=NULL_COLOUR, linewidth=0.8, linestyle=":")
    for (colour, marker, line), method in zip(_LINES, chosen, strict=False):
        axes.plot(
            grid, rows[method]["roc"], color=colour, marker=marker, linestyle=line, markevery=7, markersize=4, linewidth=1.1, label=method
        )  # fmt: skip
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_xlabel("Share of other heads called true")
    axes.set_ylabel("Share of true heads found")
    axes.set_title(f"b  ROC, {of}", loc="left", fontweight="bold")
    axes.legend(fontsize=7.5, loc="lower right")
