"""The answer of the report, and the section behind it: do these gates select? From `results/selectivity.json`."""

from dataclasses import dataclass
from typing import Any

from mechgate.report.sections.parts import (
    NONE,
    Section,
    Table,
    cell,
    is_estimate,
    minus,
    number,
    p_value,
    sets_of,
    strength,
)
from mechgate.stats.selectivity import EFFECT_BOUND, SIGMA_BOUND

# outcome -> (the answer to "do these gates select?", what it means)
ANSWERS = {
    "selective": (
        "Yes",
        "They change what they should, spare what they should, and do so better than matched controls.",
    ),
    "partly selective": (
        "In part",
        "They spare some of what they should leave alone, but not all that was asked is shown.",
    ),
    "not selective": ("No", "They change what they should leave alone about as much as what they should change."),
    "ineffective": ("No effect", "Their effect is too small, or has the wrong sign, to ask what they select."),
    "undecidable": (
        "Cannot be told",
        "The model itself does not tell apart the two things that gates would have to select between.",
    ),
    "inconclusive": ("Cannot be told yet", "The intervals hold both answers: more facts or seeds are needed."),
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The verdict in one context: `outcome` is one of `stats.selectivity.OUTCOMES`, `word` what gating does to a host's
    misbehaviour ("" for the gated model itself)."""

    context: str
    outcome: str
    answer: str
    meaning: str
    word: str
    reasons: tuple[str, ...]
    would_change: tuple[str, ...]


def answers(numbers: dict[str, Any]) -> list[Answer]:
    """One answer a context, the gated model first. An outcome that is not known is shown as it is."""
    found = []
    for name, context in numbers["contexts"].items():
        verdict = context["verdict"]
        answer, meaning = ANSWERS.get(verdict["outcome"], ("See the reasons", ""))
        found.append(
            Answer(
                context=titled(name),
                outcome=verdict["outcome"],
                answer=answer,
                meaning=meaning,
                word=f"In this host gating {context['word']} the misbehaviour." if "word" in context else "",
                reasons=tuple(map(minus, verdict["reasons"])),
                would_change=tuple(map(minus, verdict["would_change"])),
            )
        )
    return found


def titled(context: str) -> str:
    """A context's name in words."""
    return "The gated model" if context == "base" else f"Host {context}"


def primary_table(numbers: dict[str, Any], subset: str = "all") -> Table:
    """E, A and sigma with intervals, and p of E = A, a row a context and strength; on all facts, or on `known` ones."""
    rows, whole = [], subset == "all"
    for name, context in numbers["contexts"].items():
        apart = context.get("interaction") or {}
        for k, a in enumerate(context["axes"].get(subset, [])):
            row = (titled(name), strength(a["strength"]), str(a["facts"]))
            row += tuple(cell(a[key]) for key in ("effect", "side_effect", "sigma"))
            rows.append((*row, p_value(None if k else apart.get("p"))) if whole else row)
    level = next(iter(numbers["contexts"].values()))["axes"]["all"][0]["effect"]["level"]
    facts, of = ("", "; p of E = A") if whole else (f", on {subset} facts", "")
    return Table(
        caption=f"Change of the stance margin in nats{facts}: E on what should change, A on what should stay; sigma = 1 − A/E "
        f"(1: spared, 0: moved alike); {level:.0%} intervals{of}.",
        columns=("Context", "s", "Facts", "E (wanted)", "A (unwanted)", "sigma", *(("p",) if whole else ())),
        rows=tuple(rows),
    )


def selectivity(result: dict[str, Any]) -> Section:
    """The section of the selectivity analysis (`referee.run.selectivity`)."""
    numbers, settings = result["numbers"], result["settings"]
    base, contexts = numbers["contexts"]["base"], numbers["contexts"]
    at = base["axes"]["all"][0]
    families, controls = base["nulls"]["families"], base["equal dose"]["controls"]
    own = {one["set"] for one in base["sets"]}
    ends = f"E {cell(at['effect'])}, A {cell(at['side_effect'])} nats at s = {strength(at['strength'])}"
    known = [primary_table(numbers, "known")] if any("known" in c["axes"] for c in contexts.values()) else []
    return Section(
        label="Selectivity",
        how=(
            (
                "Estimator",
                "change of the stance margin, log p(agree) − log p(disagree) of content-free answers, from strength 0; E on the "
                f"side that should change, A on its matched counterpart; sigma = 1 − A/E. Intervals: {at['effect']['method']}.",
            ),
            (
                "Verdict",
                f"by a rule fixed beforehand. Ineffective: E's interval does not clear {EFFECT_BOUND} nats. Undecidable: the model "
                f"discriminates neither by margins nor by a held-out probe. Not selective: sigma's interval lies below {SIGMA_BOUND}. Selective: it "
                "lies above, every damage measure passes its equivalence test, and matched trained controls separate less.",
            ),
            (
                "Null",
                f"{len(families)} families of null gates with the learned gates' RMS(g − 1), up to {_most(families):,} exact draws a gate set, "
                f"and again at equal KL from the base on neutral text; {len(controls)} trained control tasks at equal KL.",
            ),
            (
                "n",
                f"{base['facts']} {settings.get('split', '')} facts; {sets_of(own)}; dose curves on {base['curves']['facts']} "
                f"facts, nulls on {base['nulls']['facts']}.",
            ),
            ("Random seed", str(settings.get("seed", NONE))),
        ),
        tables=(
            *known,
            _nulls(base["nulls"]),
            _dose(base["equal dose"]),
            _spared(base["spared"]),
            _claims(base["claims"]),
        ),
        caveats=(
            "A p-value against null families tests coherence (were the gates' parts learned together?), not selectivity; "
            "evidence of selectivity comes from trained controls at equal dose.",
            *(
                f"{titled(name)}: the verdict rests on E, A and sigma alone; damage and controls were measured in the gated model."
                for name, context in contexts.items()
                if context.get("decided by the axis")
            ),
            *_reported(base.get("reported only")),
            *(
                [
                    "The plan was changed after tables had been measured under an earlier one: take this run as exploratory."
                ]
                if numbers.get("plan_changed")
                else []
            ),
        ),
        alts={
            "-plane": f"Efficacy–damage plane. Learned gates: {ends}; the lines A = E and A = E/2, null gates and trained "
            "controls for comparison, at the verdict's strength and at equal KL.",
            "-dose": f"Dose curves over gate strength: change of the stance margin on the wanted and the unwanted side with null band and "
            f"controls, and their odd and even parts. {ends}.",
            "-nulls": f"Histograms of the wanted effect of {len(families)} families of null gates, the learned gates as lines.",
        },
        primary=_primary(contexts),
    )


def _most(families: dict[str, Any]) -> int:
    return max((one["draws"] for f in families.values() for one in f["exact"].values() if "wanted" in one), default=0)


def _primary(contexts: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, context in contexts.items():
        found[f"{titled(name)}: verdict"] = context["verdict"]["outcome"]
        for a in context["axes"]["all"]:
            where = f"{titled(name)}, s = {strength(a['strength'])}"
            found |= {
                f"{where}: E (nats)": a["effect"],
                f"{where}: A (nats)": a["side_effect"],
                f"{where}: sigma": a["sigma"],
            }
        if is_estimate(context.get("addition")):
            found[f"{titled(name)}: effect beyond addition (nats)"] = context["addition"]
    return found


def _nulls(nulls: dict[str, Any]) -> Table:
    rows = []
    for family, entry in nulls["families"].items():
        whole = [one for one in entry["exact"].values() if "wanted" in one]
        moved = [value for one in whole for value in one["wanted"]]
        screened = entry.get("screened") or {}
        rows.append(
            (
                family,
                entry["what"],
                f"{whole[0]['draws']} ({sum(one['draws'] for one in whole)})" if whole else "not matchable",
                f"{number(min(moved))} to {number(max(moved))}" if moved else NONE,
                p_value(whole[0]["p"]) if whole else NONE,
                f"{screened['draws']:,}" if "draws" in screened else NONE,
                p_value(screened.get("p")),
            )
        )
    learned = ", ".join(number(one["wanted"]) for one in nulls["learned"])
    return Table(
        caption=f"Null gates of equal RMS(g − 1): their E in nats (learned gates: {learned}). p of coherence, exact for the first gate "
        "set; a screened p only where the screen agrees with exact draws.",
        columns=(
            "Family",
            "What is drawn anew",
            "Exact draws, first set (all)",
            "E, range",
            "p",
            "Screened draws",
            "p, screened",
        ),
        rows=tuple(rows),
        words=2,
    )


def _dose(equal: dict[str, Any]) -> Table:
    rows = []
    for kind, group in equal.items():
        for name, one in group.items():
            sets = one["sets"] or []
            doses = [s["dose"] for s in sets]
            rows.append(
                (
                    name,
                    kind.removesuffix("s"),
                    str(len(sets)),
                    f"{number(min(doses), 1)} to {number(max(doses), 1)}" if doses else "not matchable",
                    number(sum(s["wanted"] for s in sets) / len(sets)) if sets else NONE,
                    cell(one["effect"]),
                    cell(one["estimate"]),
                )
            )
    return Table(
        caption="At equal KL from the base on neutral text: what the learned gates do more than each rival, in nats with intervals. "
        "Separation: E − A on the strength's side; only a clear gain there speaks for selection.",
        columns=("Rival", "Kind", "Sets", "Dose s*", "Rival's E", "|E| more", "Separation more"),
        rows=tuple(rows),
        words=2,
    )


def _spared(spared: dict[str, Any]) -> Table:
    rows = []
    for name, test in spared.items():
        low, high = ("none" if side is None else number(side, 3) for side in test["margin"])
        word = "uninformative" if test["blind"] else "spared" if test["passed"] else "not shown"
        word = word if test["judged"] else "too few to judge"
        power = NONE if test["n_for_80_power"] is None else str(test["n_for_80_power"])
        rows.append((name, word, str(test["n"]), cell(test["estimate"], 3), f"{low} to {high}", power))
    return Table(
        caption="What should stay: paired equivalence tests (TOST), change with its 90% interval against a margin stated beforehand "
        "(perplexity: log ratio). A difference that is not significant is no pass.",
        columns=("Measure", "Verdict", "n", "Change", "Margin", "n for 80% power"),
        rows=tuple(rows),
        words=2,
    )


def _claims(claims: dict[str, Any]) -> Table:
    return Table(
        caption="Primary claims with Holm's correction; small p supports the claim.",
        columns=("Claim", "p", "p, Holm"),
        rows=tuple((name, p_value(one["p"]), p_value(one["holm"])) for name, one in claims.items()),
    )


def _reported(found: dict[str, Any] | None) -> list[str]:
    if not found or found.get("harmonic mean") is None:
        return []
    values = ", ".join(f"{key} {found[key]:.2f}" for key in ("completeness", "selectivity", "harmonic mean"))
    return [f"Reported, not used in the verdict: {values} ({found['formula']})."]
