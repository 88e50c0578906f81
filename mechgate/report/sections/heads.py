"""Sections on heads: where gates act, which heads cause the behaviour, and how few of them are enough."""

from typing import Any

from mechgate.report.sections.parts import NONE, Section, Table, cell, number, p_value, sets_of, share, strength
from mechgate.stats.permutation import FEWEST_NULLS

_ALPHA = 0.05


def which_heads(result: dict[str, Any]) -> Section:
    """The atlas of heads (`analysis.atlas.atlas_numbers`)."""
    numbers = result["numbers"]
    rows = [_map(name, one) for name, one in numbers["maps"].items()]
    rows += [_map(f"attribution of {name}", one) for name, one in numbers.get("others", {}).items()]
    compared = tuple(
        (
            name,
            str(one["draws of gates"]),
            _range(one["with learned"]),
            _hits(one["learned minus this"]["p"]),
        )
        for name, one in numbers.get("others", {}).items()
    )
    first = numbers["maps"]["difference"]
    tables = [
        Table(
            caption="Maps of layers by heads: agreement of gate seeds (correlation, range), heads with max-T p ≤ .05, and the share of "
            "the ten largest heads, on other facts, beside an even spread.",
            columns=("Map", "Unit", "Seeds agree", "Heads found", "Top 10 share", "If even"),
            rows=tuple(rows),
            words=2,
        ),
        Table(
            caption="Attribution of the learned gates beside other gates': correlation of maps, and heads where they differ (max-T).",
            columns=("Gates", "Draws", "Correlation", "Heads that differ"),
            rows=compared,
        ),
    ]
    return Section(
        label="Heads",
        how=(
            (
                "Estimator",
                "mean |g − 1| on the user's tokens, its change from true to false claims, and integrated attribution of the stance margin.",
            ),
            (
                "Null",
                f"max-T sign flips over the whole map, facts as clusters, {first['draws']:,} draws; null and control gates beside it.",
            ),
            ("n", f"{numbers['n']} facts; {sets_of(numbers['seeds'])}."),
        ),
        tables=tuple(table for table in tables if table.rows),
        caveats=(
            "Where gates are open or shut says nothing yet about which heads cause the behaviour: see causal maps.",
        ),
        alts={
            "": "Three heat maps of layers by heads: size of gates, its change by false claims, attribution; dots mark max-T p ≤ .05."
        },
    )


def patching(result: dict[str, Any]) -> Section:
    """Causal maps of heads, and whether gates act on those heads (`causality.maps`)."""
    numbers = result["numbers"]
    patches = {**numbers["patches"], **{f"{host} into base": one for host, one in numbers["hosts"].items()}}
    rows = tuple(
        (
            name,
            cell(one["whole"]),
            _hits(one["p"]),
            *(_screen(one["screens"].get(k)) for k in ("first order", "integrated")),
        )
        for name, one in patches.items()
    )
    targets = tuple(
        (gates, kind, *((number(f["value"]), p_value(f["p, layers"]), p_value(f["p, all"])) if f else (NONE,) * 3))
        for gates, kinds in numbers["targeting"].items()
        for kind, f in ((kind, one and one["spearman"]) for kind, one in kinds.items())
    )
    return Section(
        label="Causal maps",
        how=(
            (
                "Estimator",
                "change of the log-odds of agreeing by patching one head's z between runs on false and true claims about one fact.",
            ),
            (
                "Null",
                "max-T sign flips over the map, facts as clusters; for agreement with gates, heads permuted, also within layers.",
            ),
            (
                "n",
                f"{numbers['facts']} facts ({numbers['left_out']} left out: claims of different lengths); {sets_of(numbers['targeting'])}.",
            ),
        ),
        tables=(
            Table(
                caption="What the runs differ by (nats), heads with max-T p ≤ .05, and correlation of screens with exact patches.",
                columns=("Patch", "Runs differ by", "Heads found", "First order", "Integrated"),
                rows=rows,
            ),
            Table(
                caption="Do gates act on those heads? Spearman of |g − 1| with the size of the patch's effect.",
                columns=("Gates", "Effect", "Spearman", "p within layers", "p over all"),
                rows=targets,
                words=2,
            ),
        ),
        caveats=("An attribution is a screen: only exact patches count as evidence here.",),
        alts={"": "Heat maps of what each head's patch and gates change, of |g − 1|, and the two head by head."},
        primary={f"{name}: runs differ by (nats)": one["whole"] for name, one in patches.items()},
    )


def minimal_heads(result: dict[str, Any]) -> Section:
    """How few heads' gates keep the effect (`causality.heads`)."""
    numbers = result["numbers"]
    rows, primary, findings = [], {}, []
    for gates, by_strength in numbers["gates"].items():
        for s, found in by_strength.items():
            primary[f"{gates}, s = {strength(s)}: whole effect (nats)"] = found["whole"]
            if found["why not"]:
                findings.append(f"{gates}, s = {strength(s)}: shares cannot be told, {found['why not']}.")
            for order, one in (found["smallest"] or {}).items():
                size = f"{len(one['heads'])} of {numbers['heads'][gates]}" if one else "none is enough"
                kept = (share(one["kept"]), share(one["left"]), cell(one["paths"]["direct"])) if one else (NONE,) * 3
                rows.append((gates, order, strength(s), cell(found["whole"]), size, *kept, _random_p(one)))
    return Section(
        label="Smallest sets",
        how=(
            (
                "Estimator",
                "share of the gates' effect kept by the first k heads' gates alone, and left without them; k chosen on dev facts.",
            ),
            ("Null", "random head sets of the same size, in the same layers and in any, exact, Holm over orders."),
            ("n", f"{numbers['facts']} test facts; {sets_of(numbers['gates'])}."),
        ),
        findings=tuple(findings),
        tables=(
            Table(
                caption="Smallest sets of heads; effects in nats, shares with 95% intervals.",
                columns=("Gates", "Order", "s", "Whole effect", "Heads", "Kept", "Left without", "Direct", "p, Holm"),
                rows=tuple(rows),
                words=2,
            ),
        ),
        caveats=(
            "A small set keeps the effect of these gates; other heads' gates might do as well, which random sets show.",
        ),
        alts={
            "": "Share of the effect kept and left over the number of heads with bands of random sets, and effects by layer."
        },
        primary=primary,
    )


def _map(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    top = next((t for t in one["top"] if t["k"] == 10), None)
    found = _hits(one["p"]) if "p" in one else NONE
    shares = (f"{top['on other facts']:.0%}", f"{top['even']:.0%}") if top else (NONE, NONE)
    return (name[0].upper() + name[1:], one.get("unit", "nats"), _range(one["between seeds"]), found, *shares)


def _range(found: dict[str, Any]) -> str:
    return NONE if found["mean"] is None else cell({"value": found["mean"], "low": found["low"], "high": found["high"]})


def _hits(p: list[list[float]]) -> str:
    values = [value for row in p for value in row]
    return f"{sum(value <= _ALPHA for value in values)} of {len(values)}"


def _screen(found: dict[str, Any] | None) -> str:
    return NONE if found is None else number(found["pearson"])


def _random_p(one: dict[str, Any] | None) -> str:
    """Holm's p beside random sets of the same layers and of any, where enough of them differ to tell anything."""
    if not one:
        return NONE
    parts = []
    for kind, words in (("layers", "same layers"), ("all", "any layers")):
        found = one["random"][kind]
        told = found["different"] >= FEWEST_NULLS
        parts.append(f"{words} {p_value(found['p, Holm'])}" if told else f"{words} cannot be told")
    return "; ".join(parts)
