"""What the maps say: AUROC and precision of each method on each kind of truth, with intervals, nulls and a verdict in words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mechgate.errors import InputError
from mechgate.planted.benchmark import Measured
from mechgate.stats.hierarchical import hierarchical_bootstrap
from mechgate.stats.multiplicity import holm
from mechgate.stats.recovery import GRID, auroc, precision_at, recovery_p, roc

GROUPS = {
    "planted hosts, gates": ("gates",),
    "planted hosts, weights": ("weights",),
    "known circuit": ("circuit",),
    "planted gates": ("planted gates",),
}
VERDICTS = ("finds the heads", "finds the layers at most", "cannot be told from chance", "misleads")
ALPHA = 0.05
_IDLE = 0.5  # nats


def summarise(found: Sequence[Measured], *, seed: int = 0, draws: int = 10_000) -> dict[str, Any]:
    """The table as plain JSON values: `rows` by kind of truth and method, `plants` with what is known of each.

    A row: mean `auroc` and `precision` over plants and seeds with 95% intervals (hierarchical bootstrap: seeds, bases, plants of
    a base; over plants where all stand on one base; None for a single plant; of few bases too narrow, so that no verdict rests on it alone), each plant's mean, the `chance` of precision, one-sided p against
    random heads ("all"; the other way: "below") and against random heads of the same layers ("layers"), Holm over the methods of its kind, a mean `roc`, and the `verdict`:

    - finds the heads: the AUROC's interval is above .5 and Holm's p within layers is at most .05;
    - finds the layers at most: the same for p over all heads only;
    - misleads: the interval is below .5, and Holm's p that it is so by chance (over all heads) is at most .05;
    - cannot be told from chance: the rest, and wherever there is one plant.
    """
    if not found:
        raise InputError("there are no plants to summarise")
    rows: dict[str, dict[str, Any]] = {}
    for group, kinds in GROUPS.items():
        plants = [one for one in found if one.kind in kinds]
        if plants:
            rows[group] = _group(plants, seed, draws)
    plants = [{"name": one.name, "kind": one.kind, "base": one.base, **one.facts} for one in found]
    return {"rows": rows, "plants": plants, "grid": GRID.tolist()}


def _group(plants: list[Measured], seed: int, draws: int) -> dict[str, Any]:
    methods = list(plants[0].maps)
    rows: dict[str, Any] = {}
    p: dict[str, dict[str, float]] = {"all": {}, "layers": {}, "below": {}}
    truths = [one.truth for one in plants]
    for method in methods:
        maps = [one.maps[method] for one in plants]
        row: dict[str, Any] = {"n": len(plants)}
        for name, score in (("auroc", auroc), ("precision", precision_at)):
            values = np.array(
                [[score(m, one.truth) for m in several] for several, one in zip(maps, plants, strict=True)]
            )
            row[name] = _interval(values, [one.base for one in plants], seed, draws)
            row[f"{name} by plant"] = values.mean(axis=1).tolist()
        row["chance"] = float(np.mean([truth.mean() for truth in truths]))
        row["roc"] = np.mean(
            [[roc(m, t) for m in several] for several, t in zip(maps, truths, strict=True)], axis=(0, 1)
        ).tolist()
        for kind, within in (("all", False), ("layers", True)):
            p[kind][method] = recovery_p(maps, truths, seed=seed, within_layers=within)
        p["below"][method] = recovery_p([-one for one in maps], truths, seed=seed)
        rows[method] = row
    corrected = {kind: holm(values) for kind, values in p.items()}
    for method, row in rows.items():
        row["p"] = {kind: p[kind][method] for kind in p}
        row["p, Holm"] = {kind: corrected[kind][method] for kind in p}
        row["verdict"] = _verdict(row)
    return rows


def _interval(values: np.ndarray, bases: Sequence[int], seed: int, draws: int) -> dict[str, Any]:
    """`values` [plants, seeds]."""
    if len(values) < 2:
        return {"value": float(values.mean()), "low": None, "high": None, "method": "one plant: no interval"}
    names = sorted(set(bases))
    sizes = {list(bases).count(base) for base in names}
    if len(names) > 1 and len(sizes) == 1:
        cube = np.stack([values[[b == base for b in bases]] for base in names])  # [bases, plants, seeds]
    else:
        cube = values[:, None]
    return hierarchical_bootstrap(np.moveaxis(cube, -1, 0), seed=seed, draws=draws).to_json()


def _verdict(row: dict[str, Any]) -> str:
    low, high = row["auroc"]["low"], row["auroc"]["high"]
    if low is not None and low > 0.5:
        for kind, verdict in (("layers", VERDICTS[0]), ("all", VERDICTS[1])):
            if row["p, Holm"][kind] <= ALPHA:
                return verdict
    below = high is not None and high < 0.5 and row["p, Holm"]["below"] <= ALPHA
    return VERDICTS[3] if below else VERDICTS[2]


def told(numbers: dict[str, Any]) -> list[str]:
    """The findings in words, a line each; the best first within each kind of truth."""
    lines = []
    for group, rows in numbers["rows"].items():
        n = next(iter(rows.values()))["n"]
        lines.append(f"{group} ({n} plants):")
        for method, row in sorted(rows.items(), key=lambda item: -item[1]["auroc"]["value"]):
            a, q = row["auroc"], row["precision"]
            interval = "" if a["low"] is None else f" [{a['low']:.2f}, {a['high']:.2f}]"
            lines.append(
                f"  {method}: AUROC {a['value']:.2f}{interval}, precision {q['value']:.2f} (chance {row['chance']:.2f}), p within "
                f"layers {row['p']['layers']:.2g}, over all {row['p']['all']:.2g}: {row['verdict']}"
            )
    return lines + _idle(numbers["plants"])


def _idle(plants: Sequence[dict[str, Any]]) -> list[str]:
    """Gates that change the stance by less than half a nat in the mean over seeds: where they are says nothing."""
    found = [
        f"{objective} gates in {one['name']} ({np.mean(changes):+.2f})"
        for one in plants
        for objective, changes in one.get("gates", {}).items()
        if abs(np.mean(changes)) < _IDLE
    ]
    return [f"gates that change the stance by less than {_IDLE:g} nats: {', '.join(found)}"] if found else []
