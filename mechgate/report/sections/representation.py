"""Sections on what gates change in representations: similarity, persona vectors, SAE latents."""

from typing import Any

from mechgate.report.sections.parts import NONE, Section, Table, cell, number, p_value, sets_of, strength


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
