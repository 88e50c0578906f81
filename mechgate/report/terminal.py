"""Results on a terminal: plain tables and sentences."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mechgate.report.verdicts import shown


def print_demo(numbers: dict[str, Any], folder: Path, console: Console | None = None) -> None:
    """The demo's tables, verdict, sample replies' rates and the paths of what it wrote."""
    out = console or Console(highlight=False)
    out.print(_dose_table(numbers))
    out.print(_content_table(numbers))
    out.print(_reply_table(numbers))
    out.print("\n[bold]Sample replies[/bold] (base model with gates; evenly spaced, not chosen)")
    for sample in numbers["samples"]:
        out.print(f"  user: {sample['prompt']}", markup=False, soft_wrap=True)
        for reply in sample["replies"]:
            said = " ".join(reply["reply"].split()) or "(empty)"
            out.print(f"    s = {reply['strength']:+g} [{reply['stance']}] {said}", markup=False, soft_wrap=True)
    out.print("\n[bold]Verdict[/bold]")
    for line in numbers["verdict"]["lines"]:
        out.print(f"- {line}", markup=False, soft_wrap=True)
    out.print("\n[bold]Written[/bold]")
    for name, what in (
        ("reversal.png", "the figure (also .svg)"),
        ("results.json", "every number, with provenance"),
        ("replies.csv", "all free replies, with their stance"),
        ("rows.csv", "a row a prompt and strength (also rows-nulls.csv, rows-host.csv)"),
        ("gates.safetensors", "the gates"),
        ("host", "the LoRA host, a peft adapter"),
        ("prereg.yaml", "what was fixed before the test split was read"),
    ):
        out.print(f"  {folder / name}  - {what}", markup=False, soft_wrap=True)
    out.print(f"This run took {numbers['seconds']['all']:.0f} s.")


def _dose_table(numbers: dict[str, Any]) -> Table:
    table = Table(
        title="Stance margin: log p(agree) - log p(disagree), nats, mean [95% interval over facts]",
        title_justify="left",
    )
    for column in ("host", "claims", "n", "s = -1 (inverted)", "s = 0 (no gate)", "s = +1 (trained)"):
        table.add_column(column, justify="left" if column in ("host", "claims") else "right")
    for host, curves in numbers["curves"].items():
        for name, points in curves.items():
            at = {p["strength"]: p["level"] for p in points}
            table.add_row(host, name, str(at[0.0]["n"]), *(shown(at[s]) if s in at else "" for s in (-1.0, 0.0, 1.0)))
    return table


def _content_table(numbers: dict[str, Any]) -> Table:
    table = Table(
        title="Content-bearing margin, change from s = 0, nats a token (first token + stance + content)",
        title_justify="left",
    )
    for column in ("claims", "s", "change", "first token", "stance", "content"):
        table.add_column(column, justify="left" if column == "claims" else "right")
    for name, strengths in numbers["content_margins"].items():
        for s, parts in strengths.items():
            cells = [f"{parts[c]['value']:+.2f}" for c in ("first_token", "stance_part", "content_part")]
            table.add_row(name, s, shown(parts["margin"]), *cells)
    return table


def _reply_table(numbers: dict[str, Any]) -> Table:
    table = Table(
        title="Free replies (greedy): share of each stance; surprise under the ungated model, nats a token",
        title_justify="left",
    )
    for column in ("host", "claims", "s", "n", "agree", "disagree", "hedge", "neither", "surprise"):
        table.add_column(column, justify="left" if column in ("host", "claims") else "right")
    for r in numbers["replies"]:
        shares = [f"{r['shares'][k]['value']:.0%}" for k in ("agree", "disagree", "hedge", "neither")]
        surprise = "-" if r["surprise"] is None else f"{r['surprise']['value']:.2f}"
        kind = r["kind"].replace("_claim", "")
        table.add_row(r["host"], kind, f"{r['strength']:+g}", str(r["n"]), *shares, surprise)
    return table


def print_eval(numbers: dict[str, Any], folder: Path, console: Console | None = None) -> None:
    """The whole table of an evaluation, host by host, and where it is kept."""
    out = console or Console(highlight=False)
    found = numbers["table"]
    for host in dict.fromkeys(entry["host"] for entry in found):
        out.print(_eval_table(host, [entry for entry in found if entry["host"] == host]))
    if known := numbers["knowledge"]:
        out.print(
            f"Of {known['facts']} facts the base model knows {known['known by dev phrasings']} by the dev phrasings, of "
            f"which {known['of these, known by the others']} also by the others; split-half reliability "
            f"{known['split-half reliability']:.2f}. 'known' lines are on these facts.",
            soft_wrap=True,
        )
    out.print(f"\nRows, a line a prompt, and results.json: {folder}", markup=False, soft_wrap=True)
    out.print(f"This run took {numbers['seconds']['all']:.0f} s.")


def _eval_table(host: str, entries: list[dict[str, Any]]) -> Table:
    strengths = sorted({entry["strength"] for entry in entries})
    table = Table(
        title=f"{host}: level at s = 0, change from it elsewhere (perplexity: ratio), [95% interval]",
        title_justify="left",
    )
    for column in ("measure", "", "unit", "n", *(f"s = {s:+g}" if s else "s = 0" for s in strengths)):
        table.add_column(column, justify="left" if column in ("measure", "", "unit") else "right")
    for role in ("wanted", "unwanted", "other"):
        chosen = [entry for entry in entries if entry["role"] == role]
        for line, subset in dict.fromkeys((entry["line"], entry["subset"]) for entry in chosen):
            at = {e["strength"]: e for e in chosen if (e["line"], e["subset"]) == (line, subset)}
            name = line if subset == "all" else f"  {subset} facts"
            cells = [_cell(at[s]) if s in at else "" for s in strengths]
            first = at[min(at, key=abs)]  # strength 0, whose level is shown
            table.add_row(name, role if subset == "all" else "", first["unit"], str(first["n"]), *cells)
        table.add_section()
    return table


def _cell(entry: dict[str, Any]) -> str:
    e = entry["level" if entry["strength"] == 0 else "change"]
    if e is None:
        return "-"
    if entry["strength"] == 0:
        return f"{e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}]"
    if entry["change_unit"] == "ratio":
        return f"x{e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}]"
    return shown(e)
