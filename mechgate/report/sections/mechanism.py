"""Sections on what gates act on inside the model: heads, representations, persona vectors, SAE latents, causal maps."""

from typing import Any

from mechgate.report.sections.parts import NONE, Section, Table, cell, number, p_value, sets_of, share, strength

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
            caption="Maps of layers × heads: agreement of gate seeds (correlation, range), heads with max-T p ≤ .05, and the share of "
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


def similarity(result: dict[str, Any]) -> Section:
    """Changes of representation on unsafe minus on safe prompts (`representation.similarity`)."""
    numbers = result["numbers"]
    rows, probes, primary = [], [], {}
    for contrast in numbers["contrasts"]:
        where = f"{contrast['design']} at {contrast['position']}"
        for entry in contrast["strengths"]:
            s = strength(entry["strength"])
            for name, change in entry["changes"].items():
                overall = change["overall"]
                row = (where, name, change["outcome"], s, cell(overall, 4), cell(change["share"]))
                rows.append((*row, p_value(overall["p"])))
                primary[f"{where}, s = {s}: {name}"] = overall
            probes += [
                (where, task, found["outcome"], s, cell(found["base"]), cell(found["change"]))
                for task, found in entry["probes"]["tasks"].items()
            ]
    first = numbers["contrasts"][0]
    rivals = first["strengths"][0]["changes"]["rows"]["rivals"]
    return Section(
        label="Similarity",
        how=(
            (
                "Estimator",
                "change on unsafe prompts minus change on matched safe ones: size of the change, size beyond common scaling, RSA rows.",
            ),
            (
                "Null",
                "sides swapped within facts; "
                + "; ".join(
                    f"{kind} gates of equal KL: {', '.join(group) or 'none'}" for kind, group in rivals.items()
                ),
            ),
            ("n", f"{first['facts']} facts; {sets_of(first['strengths'][0]['changes']['rows']['seeds'])}."),
        ),
        tables=(
            Table(
                caption="Change on unsafe minus change on safe prompts over all layers, with 95% intervals; share of the change.",
                columns=("Prompts", "Measure", "Outcome", "s", "Difference", "Share", "p"),
                rows=tuple(rows),
                words=3,
            ),
            Table(
                caption="Linear probes on held-out facts: accuracy minus .5 without gates, and its change.",
                columns=("Prompts", "Probe", "Outcome", "s", "Without gates", "Change"),
                rows=tuple(probes),
                words=3,
            ),
        ),
        caveats=(
            *dict.fromkeys(note for contrast in numbers["contrasts"] for note in contrast.get("notes", [])),
            *(f"No equal dose of {rival}: {why}" for rival, why in numbers.get("unmatched", {}).items()),
            "CKA cannot see isotropic scaling: a pure dampener looks perfect in it, so the size of the change stands beside it.",
        ),
        alts={
            "": "Layer curves of the change, RSA, CKA and probes with null bands, and dissimilarity matrices of the conditions."
        },
        primary=primary,
    )


def persona_alignment(result: dict[str, Any]) -> Section:
    """What gates write along persona vectors, read and detect of them (`representation.personas`)."""
    numbers = result["numbers"]
    rows, detects, primary = [], [], {}
    for arm in (*numbers["gates"], *numbers["controls"]):
        for side, verb in (("write", "writes"), ("read", "reads")):
            for name, one in numbers["verdicts"][arm][side].items():
                verdict = one["verdict"] + (f" ({one['why']})" if one.get("why") else "")
                row = (arm, f"{verb} {name}", verdict, str(one["layer"]), number(one["value"]))
                rows.append((*row, number(one["largest null gate"]), p_value(one["p"])))
        for name, one in numbers["detect"][arm].items():
            whole = one["whole"]
            found = {"value": whole["auroc"][0], "low": whole["low"][0], "high": whole["high"][0]}
            detects.append((arm, name, cell(found).replace("+", ""), p_value(whole["p_any"])))
            primary[f"{arm} detects {name}: AUROC"] = found
    return Section(
        label="Persona vectors",
        how=(
            (
                "Estimator",
                "cosine of the mean change of the residual stream with each vector (write); W's top right-singular vectors (read); AUROC of |Wx + b| (detect).",
            ),
            (
                "Null",
                "null gates of equal size, and directions with the activations' covariance; labels permuted for detection.",
            ),
            ("n", f"{numbers['facts']} facts; {sets_of(numbers['gates'])}; {len(numbers['directions'])} vectors."),
        ),
        tables=(
            Table(
                caption="Largest cosine over layers, beside the largest of null gates.",
                columns=("Gates", "Does what", "Verdict", "Layer", "Cosine", "Largest null", "p"),
                rows=tuple(rows),
                words=3,
            ),
            Table(
                caption="Detection: AUROC with 95% interval (.5: chance).",
                columns=("Gates", "Of what", "AUROC", "p"),
                rows=tuple(detects),
                words=2,
            ),
        ),
        caveats=("A vector that does not steer the model says little about what writing along it does.",),
        alts={"": "Cosine of what gates write with each persona vector over layers, with null bands."},
        primary=primary,
    )


def sae_overlap(result: dict[str, Any]) -> Section:
    """Overlap of latents that gates move with those that mark unsafe prompts (`representation.features`)."""
    numbers = result["numbers"]
    rows, findings = [], []
    for sae, one in numbers["saes"].items():
        worst = max(q["fvu"] for q in one["quality"].values())
        least = min(q["loss recovered"] for q in one["quality"].values())
        sound = "sound enough for a claim" if one["sound"] else "too little for a claim on overlap"
        findings.append(
            f"{sae} (layer {one['layer']}): FVU up to {worst:.2f}, at least {least:.0%} of the loss kept; {sound}."
        )
        for arm in numbers["gates"]:
            for mark, statistics in one["overlap"][arm].items():
                for statistic, v in statistics.items():
                    values = (f"{v['value']:.3f}", f"{v['expected']:.3f}", p_value(v["p"])) if v else (NONE,) * 3
                    rows.append((sae, arm, mark, statistic, *values))
    return Section(
        label="SAE features",
        how=(
            (
                "Estimator",
                "overlap of latents moved by the gates with latents that mark unsafe prompts, chosen on disjoint prompts, clusters of alike decoders counted once.",
            ),
            (
                "Null",
                "latents permuted within deciles of firing rate and decoder norm; null and control gates in the figure.",
            ),
            (
                "n",
                f"{numbers['facts']} facts, half for each choice; {sets_of(numbers['gates'])}; {len(numbers['saes'])} SAEs.",
            ),
        ),
        findings=tuple(findings),
        tables=(
            Table(
                caption="Overlap of moved with marking latents, what is expected of latents alike, and its p.",
                columns=("SAE", "Gates", "Mark", "Statistic", "Value", "Expected", "p"),
                rows=tuple(rows),
                words=4,
            ),
        ),
        caveats=(
            "No claim on overlap stands on an SAE with FVU above .35 on gated activations, or below 90% of the loss kept.",
        ),
        alts={
            "": "Latents moved by the gates against latents that separate false from true claims, and overlap beside nulls."
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
            ("Null", "random head sets of the same size and layers, exact, Holm over orders."),
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
    """Holm's p beside random sets; where several kinds were drawn, the kind is named."""
    if not one:
        return NONE
    random = one["random"]
    if "p, Holm" in random:
        return p_value(random["p, Holm"])
    return "; ".join(f"{kind} {p_value(found['p, Holm'])}" for kind, found in random.items())
