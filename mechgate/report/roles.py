"""Which tokens carry an effect: bars of the change of the stance margin, gate on one role's tokens at a time."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mechgate.errors import DataError
from mechgate.report.figures import STYLE, save_figure

_SETS = (("#0072B2", ""), ("#D55E00", "///"))  # colour, and hatch for reading in grey


def draw_roles(effects: list[dict[str, Any]], path: Path, *, caption: str) -> list[Path]:
    """A panel a strength, a group of bars a part (a role, all, together), a bar a set; nats with their intervals.

    `effects` are the rows of `analysis.roles.role_effects`. PNG and SVG. Raises `DataError` for no rows, or more sets
    than there are colours.
    """
    sets = list(dict.fromkeys(e["set"] for e in effects))
    strengths = sorted({e["strength"] for e in effects})
    if not effects or len(sets) > len(_SETS):
        raise DataError("these effects cannot be drawn", got=f"{len(effects)} rows, {len(sets)} sets")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(strengths), figsize=(4.9 * len(strengths), 4.2), sharey=True, squeeze=False)
        try:
            for panel, strength in zip(axes.flat, strengths, strict=True):
                here = [e for e in effects if e["strength"] == strength]
                parts = list(dict.fromkeys(e["where"] for e in here))
                for k, name in enumerate(sets):
                    colour, hatch = _SETS[k]
                    rows = {e["where"]: e for e in here if e["set"] == name}
                    values = [rows[p]["value"] for p in parts]
                    ends = [
                        [rows[p]["value"] - rows[p]["low"] for p in parts],
                        [rows[p]["high"] - rows[p]["value"] for p in parts],
                    ]
                    x = [i + 0.38 * (k - (len(sets) - 1) / 2) for i in range(len(parts))]
                    panel.bar(
                        x,
                        values,
                        0.36,
                        yerr=ends,
                        color=colour,
                        hatch=hatch,
                        edgecolor="white",
                        label=name,
                        error_kw={"linewidth": 1},
                    )
                panel.set_xticks(range(len(parts)), [p.replace(" - ", "\n− ") for p in parts], fontsize=8)
                panel.axhline(0, color="black", linewidth=0.6)
                panel.set_title(f"s = {strength:+g}", loc="left", fontweight="bold")
                panel.set_xlabel("Tokens that the gates act on")
            axes[0, 0].set_ylabel("Change of stance margin (nats)")
            axes[0, 0].legend(fontsize=8)
            figure.text(0.01, 0.01, caption, fontsize=7.5, color="#333333", va="bottom")
            figure.tight_layout(rect=(0, 0.13, 1, 1))
            return save_figure(figure, path)
        finally:
            plt.close(figure)
