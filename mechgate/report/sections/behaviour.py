"""Sections on what gates do to behaviour: other objectives, other domains, tokens, the whole profile, the dial and replies."""

from typing import Any

from mechgate.report.sections.parts import (
    NONE,
    Quote,
    Section,
    Table,
    cell,
    minus,
    sets_of,
    share,
    strength,
)

_MARGIN = "change of the stance margin from strength 0, nats"
_TWO_SIDES = "False claims should move, true claims about the same facts should not"


def objectives(result: dict[str, Any]) -> Section:
    """Variants of the training objective or of the gate's form, on the plane of E and A (`analyses/objectives.py`)."""
    found = result["numbers"]
    rows, primary = [], {}
    for name, entry in found.items():
        at = entry["axes"]["all"][0]
        rows.append(
            (
                name,
                entry["verdict"],
                cell(at["effect"]),
                cell(at["side_effect"]),
                cell(at["sigma"]),
                f"{entry['kl']:.3f}",
            )
        )
        primary |= {
            f"{name}: E (nats)": at["effect"],
            f"{name}: A (nats)": at["side_effect"],
            f"{name}: sigma": at["sigma"],
        }
    first = next(iter(found.values()))
    at = first["axes"]["all"][0]
    return Section(
        label="Objectives",
        how=(
            (
                "Estimator",
                f"E, A and sigma = 1 − A/E at s = {strength(at['strength'])} as above; {at['effect']['method']}.",
            ),
            ("Null", "A = E: what should be spared moves as much."),
            ("n", f"{at['facts']} facts; {sets_of({one['set'] for one in first['sets']})} a variant."),
        ),
        tables=(
            Table(
                caption="Each variant in the gated model, nats with intervals; KL from the base on neutral text, nats a token.",
                columns=("Variant", "Verdict", "E (wanted)", "A (unwanted)", "sigma", "KL"),
                rows=tuple(rows),
                words=2,
            ),
        ),
        caveats=("Variants are judged without trained controls here: none can be called selective.",),
        alts={"": "Efficacy against damage of every variant, with the lines A = E and A = E/2."},
        primary=primary,
    )


def transfer(result: dict[str, Any]) -> Section:
    """Domain of training against domain of test (`analysis.transfer.transfer_numbers`)."""
    numbers = result["numbers"]
    rows, primary = [], {}
    for c in numbers["contrasts"]:
        row = (_kind(c["kind"]), c["tested"], strength(c["strength"]), cell(c["own"]), cell(c["others"]))
        rows.append((*row, cell(c["own minus others"]), cell(c["share"])))
        if c["tested"] == "all":
            primary[f"{_kind(c['kind'])}, s = {strength(c['strength'])}: own minus other domains (nats)"] = c[
                "own minus others"
            ]
    cells = [c["change"] for c in numbers["cells"]]
    return Section(
        label="Transfer",
        how=(
            ("Estimator", f"{_MARGIN}, by gates of the facts' own domain and of others; {cells[0]['method']}."),
            ("Null", "own minus others = 0: gates know nothing of their domain. True claims stand beside false ones."),
            ("n", f"{min(c['n'] for c in cells)} or more facts a cell; {len(numbers['trained'])} domains of training."),
        ),
        tables=(
            Table(
                caption="Change of the stance margin by gates of the own domain and of the others, nats; share: others over own.",
                columns=("Claims", "Tested on", "s", "Own", "Others", "Own minus others", "Share"),
                rows=tuple(rows),
                words=2,
            ),
        ),
        caveats=("Transfer to other domains says that gates are general, not that they are selective.",),
        alts={"": "Heat maps of the change of the stance margin: domain of training by domain of test."},
        primary=primary,
    )


def token_roles(result: dict[str, Any]) -> Section:
    """On which tokens gates work (`analysis.roles.role_effects`)."""
    effects = result["numbers"]["effects"]
    seeds = result["numbers"].get("seeds", {})
    whole = {(e["set"], e["strength"]): e for e in effects if e["where"] == "response"}
    return Section(
        label="Tokens",
        how=(
            (
                "Estimator",
                f"{_MARGIN}, with gates acting on one role's tokens only; 95% bootstrap intervals over facts.",
            ),
            (
                "Null",
                "0 for a role; additivity (all − sum of roles = 0) for their interplay. True claims beside false ones.",
            ),
            ("n", f"{effects[0]['n']} facts; {sets_of(seeds) if seeds else 'one gate set'}."),
        ),
        tables=(
            Table(
                caption="Change of the stance margin by gates on one role's tokens, nats; share of the whole effect.",
                columns=("Claims", "Tokens", "s", "Change", "Share"),
                rows=tuple(
                    (
                        e["set"],
                        e["where"].replace(" - ", " − "),
                        strength(e["strength"]),
                        cell(e),
                        minus(f"{e['share']:.0%}"),
                    )
                    for e in effects
                ),
                words=2,
            ),
        ),
        caveats=("Gates that work on response tokens only cannot be credited with reading the claim.",),
        alts={"": "Bars of the change of the stance margin by the tokens that gates act on, false beside true claims."},
        primary={f"{s}, s = {strength(at)}: response tokens only (nats)": e for (s, at), e in whole.items()},
    )


def behaviour_profile(result: dict[str, Any]) -> Section:
    """The whole table of an evaluation (`evaluation.run`)."""
    entries = [e for e in result["numbers"]["table"] if e["subset"] == "all"]
    strengths = sorted({e["strength"] for e in entries})
    tables = []
    for host in dict.fromkeys(e["host"] for e in entries):
        rows = []
        for line in dict.fromkeys(e["line"] for e in entries if e["host"] == host):
            at = {e["strength"]: e for e in entries if e["host"] == host and e["line"] == line}
            first = at[min(at, key=abs)]
            cells = [_profile_cell(at[s]) if s in at else NONE for s in strengths]
            rows.append((line, first["role"], first["unit"], str(first["n"]), *cells))
        where = "the base model" if host == "base" else f"host {host}"
        tables.append(
            Table(
                caption=f"In {where}: level at s = 0, change from it elsewhere (perplexity: ratio), with 95% intervals.",
                columns=("Measure", "Role", "Unit", "n", *(f"s = {strength(s)}" for s in strengths)),
                rows=tuple(rows),
                words=3,
            )
        )
    wanted = [e for e in entries if e["role"] == "wanted" and e["unit"] == "nats" and e["strength"]]
    return Section(
        label="Profile",
        how=(
            (
                "Estimator",
                "means over facts or items, and their change from strength 0; a set's facts are its clusters.",
            ),
            (
                "Null",
                "0 (ratio 1) for a change. What should stay is described here; equivalence is tested under Selectivity.",
            ),
            ("n", f"in the table; {sets_of(result['settings'].get('gates', []))}."),
        ),
        tables=tuple(tables),
        caveats=("Many measures without correction: a description, not a test.",),
        alts={"": "Small panels over gate strength, one a measure, wanted effects first, for each host."},
        primary={f"{e['host']}, s = {strength(e['strength'])}: {e['line']} (nats)": e["change"] for e in wanted},
    )


def reversal(result: dict[str, Any]) -> Section:
    """The dial on unseen facts, domains and wordings, and in a LoRA host; free replies (`demo`)."""
    numbers = result["numbers"]
    rows, primary = [], {}
    for host, curves in numbers["curves"].items():
        for name, points in curves.items():
            at = {p["strength"]: p["level"] for p in points}
            rows.append((host, name, str(at[0.0]["n"]), *(cell(at.get(s)) for s in (-1.0, 0.0, 1.0))))
            primary |= {f"{host}, {name}: margin at s = {strength(s)} (nats)": at[s] for s in (-1.0, 1.0) if s in at}
    stances = ("agree", "disagree", "hedge", "neither")
    replies = [
        (
            *(r["host"], r["kind"].replace("_", " "), strength(r["strength"]), str(r["n"])),
            *(share(r["shares"][stance]) for stance in stances),
        )
        for r in numbers["replies"]
    ]
    nulls = numbers["nulls"]
    return Section(
        label="The dial",
        how=(
            ("Estimator", "stance margin, log p(agree) − log p(disagree), nats; BCa intervals over facts."),
            (
                "Null",
                f"{nulls['draws']} {nulls['family']} null gates; they move it by at most {nulls['largest']:.2f} nats.",
            ),
            ("n", f"{numbers['n']['medical'] + numbers['n']['others']} facts with false claims, one gate set."),
            ("Random seed", str(result["settings"].get("seed", NONE))),
        ),
        findings=tuple(map(minus, numbers["verdict"]["lines"])),
        tables=(
            Table(
                caption="Stance margin in nats, mean with 95% interval over facts.",
                columns=("Host", "Claims", "n", "s = −1", "s = 0", "s = +1"),
                rows=tuple(rows),
                words=2,
            ),
            Table(
                caption="Free replies, greedy: share of each stance, with Clopper–Pearson 95% intervals.",
                columns=("Host", "Claims", "s", "n", *map(str.capitalize, stances)),
                rows=tuple(replies),
                words=2,
            ),
        ),
        caveats=("One seed is a demonstration, not a result.",),
        quotes=tuple(
            Quote(
                prompt=one["prompt"],
                replies=tuple((f"s = {strength(r['strength'])}, {r['stance']}", r["reply"]) for r in one["replies"]),
            )
            for one in numbers["samples"]
        ),
        alts={"": "Stance margin over gate strength for false and true claims, in the gated model and in a LoRA host."},
        primary=primary,
    )


def _kind(kind: str) -> str:
    return {"false_claim": "False claims", "true_claim": "True claims"}.get(kind, kind)


def _profile_cell(entry: dict[str, Any]) -> str:
    if not entry["strength"]:
        level = entry["level"]
        return NONE if level is None else cell(level).replace("+", "")
    change = entry["change"]
    if change is None or entry["change_unit"] != "ratio":
        return cell(change)
    return f"x{change['value']:.2f} [{change['low']:.2f}, {change['high']:.2f}]"
