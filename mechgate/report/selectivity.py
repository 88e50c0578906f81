"""The selectivity analysis on a terminal: verdicts, then what they stand on."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mechgate.report.verdicts import shown


def print_selectivity(numbers: dict[str, Any], folder: Path, console: Console | None = None) -> None:
    """Verdict and reasons a context, then axes, nulls, equal dose and damage of the gated model."""
    out = console or Console(highlight=False)
    contexts = numbers["contexts"]
    out.print(_axis_table(contexts))
    base = contexts["base"]
    out.print(_null_table(base["nulls"]))
    out.print(_dose_table(base["equal dose"]))
    out.print(_spared_table(base["spared"]))
    for name, context in contexts.items():
        verdict = context["verdict"]
        word = f"; gating {context['word']} it" if "word" in context else ""
        out.print(f"\n[bold]{name}: {verdict['outcome']}[/bold]{word}")
        for reason in verdict["reasons"]:
            out.print(f"  - {reason}", markup=False, soft_wrap=True)
        for wish in verdict["would_change"]:
            out.print(f"  - would change with {wish}", markup=False, soft_wrap=True)
    if numbers["plan_changed"]:
        out.print("\nThe plan was changed after tables had been measured under an earlier one: prereg-*.yaml.")
    out.print(f"\nselectivity.json, prereg.yaml and every table: {folder}", markup=False, soft_wrap=True)
    out.print(f"This run took {numbers['seconds']['all']:.0f} s.")


def _table(title: str, columns: dict[str, bool]) -> Table:
    """A table with left-aligned (True) and right-aligned columns."""
    table = Table(title=title, title_justify="left")
    for name, left in columns.items():
        table.add_column(name, justify="left" if left else "right")
    return table


def _axis_table(contexts: dict[str, Any]) -> Table:
    columns = {"context": True, "facts": True, "n": False, "s": False, "E wanted": False, "A unwanted": False}
    table = _table(
        "Change of the stance margin, nats; sigma = 1 - A/E, mean [95% interval]", {**columns, "sigma": False}
    )
    for name, context in contexts.items():
        for label, axes in context["axes"].items():
            for a in axes:
                sigma = shown(a["sigma"]) if a["sigma"] else "-"
                cells = [shown(a["effect"]), shown(a["side_effect"]), sigma]
                table.add_row(name, label, str(a["facts"]), f"{a['strength']:+g}", *cells)
    return table


def _null_table(nulls: dict[str, Any]) -> Table:
    columns = {"null family": True, "exact draws": False, "E, range": False, "p exact": False}
    title = "Null gates of equal RMS(g - 1); p is of coherence (were the parts learned together?), not of selectivity"
    table = _table(title, {**columns, "screened": False, "r": False, "p screened": False})
    for family, entry in nulls["families"].items():
        exact = list(entry["exact"].values())
        whole = [one for one in exact if "wanted" in one]
        moved = [value for one in whole for value in one["wanted"]]
        draws = " + ".join(str(one["draws"]) for one in whole) or ("not matched" if exact else "-")
        spread = f"{min(moved):+.2f} to {max(moved):+.2f}" if moved else "-"
        screened = entry.get("screened") or {}
        fit = screened.get("agreement")
        table.add_row(
            family,
            draws,
            spread,
            _p(whole[0]["p"] if whole else None),
            f"{screened['draws']:,}" if "draws" in screened else "-",
            f"{fit['r']:.3f}" if fit else "-",
            _p(screened.get("p")),
        )
    return table


def _dose_table(equal: dict[str, Any]) -> Table:
    columns = {"at equal KL on neutral text": True, "kind": True, "sets": False, "dose s*": False}
    more = {"E of rival": False, "|E| more": False, "separation more": False}
    table = _table("What the learned gates do more, nats [95%]; separation: E - A", {**columns, **more})
    for kind, group in equal.items():
        for name, one in group.items():
            sets = one["sets"] or []
            doses = [s["dose"] for s in sets]
            span = f"{min(doses):+.1f} to {max(doses):+.1f}" if doses else "not matchable"
            effect = f"{sum(s['wanted'] for s in sets) / len(sets):+.2f}" if sets else "-"
            gains = [shown(one[key]) if one[key] else "-" for key in ("effect", "estimate")]
            table.add_row(name, kind, str(len(sets)), span, effect, *gains)
    return table


def _spared_table(spared: dict[str, Any]) -> Table:
    columns = {"should stay": True, "n": False, "change [90%]": False, "margin": False, "verdict": True}
    table = _table("Equivalence tests (TOST) at the verdict's strength", {**columns, "n for 80% power": False})
    for name, test in spared.items():
        low, high = ("none" if side is None else f"{side:+.3f}" for side in test["margin"])
        word = "uninformative" if test["blind"] else "spared" if test["passed"] else "not shown"
        word = word if test["judged"] else "too few to judge"
        power = "-" if test["n_for_80_power"] is None else str(test["n_for_80_power"])
        table.add_row(name, str(test["n"]), shown(test["estimate"]), f"{low} to {high}", word, power)
    return table


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
