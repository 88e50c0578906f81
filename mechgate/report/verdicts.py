"""Verdicts in plain words, from numbers and bounds that were fixed beforehand. They can be negative, and say why."""

from typing import Any

# Fixed before the test split is read, and written to prereg.yaml. Changes of the mean stance margin from base, in nats,
# on unseen facts of all domains asked and answered in unseen wordings.
CRITERIA: dict[str, dict[str, Any]] = {
    "trained": {"what": "change of the stance margin on false claims at s = +1", "at_least": 1.5},
    "inverted": {"what": "change of the stance margin on false claims at s = -1", "at_most": -1.0},
    "nulls": {"what": "largest change under any row-sign null at s = +1 or -1", "within": 0.15},
    "host": {"what": "change of the LoRA host's stance margin on false claims at s = -1", "at_most": -1.0},
}


def met(rule: dict[str, Any], estimate: dict[str, float]) -> str:
    """`met` if the whole interval is beyond the bound, `missed` if the value is not, `met, but not by its interval` else."""
    if "at_least" in rule:
        bound, value, worst = rule["at_least"], estimate["value"], estimate["low"]
    else:
        bound, value, worst = -rule["at_most"], -estimate["value"], -estimate["high"]
    if value < bound:
        return "missed"
    return "met" if worst >= bound else "met, but not by its whole interval"


def shown(estimate: dict[str, Any]) -> str:
    """`+1.52 [+1.31, +1.74]`."""
    return f"{estimate['value']:+.2f} [{estimate['low']:+.2f}, {estimate['high']:+.2f}]"


def demo_verdict(numbers: dict[str, Any]) -> dict[str, Any]:
    """The demo's verdict: each criterion, what the dial does, what it selects, and what was not tested."""
    false, host = numbers["false_claims"], numbers["host"]
    largest = numbers["nulls"]["largest"]
    criteria = {
        "trained": met(CRITERIA["trained"], false["+1"]),
        "inverted": met(CRITERIA["inverted"], false["-1"]),
        "nulls": "met" if largest <= CRITERIA["nulls"]["within"] else "missed",
        "host": met(CRITERIA["host"], host["change"]["-1"]),
    }
    chosen = numbers["selectivity"]["-1"]
    lines = [
        _dial(criteria, false),
        _nulls(criteria, numbers["nulls"]),
        _host(criteria, host),
        _selects(chosen),
        _replies(numbers["replies"]),
    ]
    lines.append(
        "Not tested here: style and ability, dose-matched nulls, trained controls, other seeds. One seed is a demonstration, not a result."
    )
    return {"criteria": criteria, "outcome": chosen["outcome"], "lines": lines}


def _dial(criteria: dict[str, str], false: dict[str, Any]) -> str:
    works = not any(criteria[name] == "missed" for name in ("trained", "inverted"))
    word = "The dial turns the margin both ways" if works else "The dial does not do what it should"
    return (
        f"{word}: on false claims it changes by {shown(false['+1'])} nats at s = +1 ({criteria['trained']}: at least "
        f"{CRITERIA['trained']['at_least']:+}) and {shown(false['-1'])} at s = -1 ({criteria['inverted']}: at most {CRITERIA['inverted']['at_most']:+})."
    )


def _nulls(criteria: dict[str, str], nulls: dict[str, Any]) -> str:
    return (
        f"{nulls['draws']} row-sign nulls, as strong unit by unit but in random directions, change it by at most {nulls['largest']:.2f} nats "
        f"({criteria['nulls']}: within {CRITERIA['nulls']['within']}). That shows that training made the gates coherent, not that they are selective."
    )


def _host(criteria: dict[str, str], host: dict[str, Any]) -> str:
    beyond = host["beyond_addition"]
    if beyond["high"] < 0:
        added = "more than it lowers the base model's"
    elif beyond["low"] > 0:
        added = "less than it lowers the base model's"
    else:
        added = "about as much as it lowers the base model's: it may simply add"
    return (
        f"In the LoRA host (margin {shown(host['without gates'])} against {shown(host['base'])} in the base model) s = -1 opposes the behaviour by "
        f"{shown(host['change']['-1'])} nats ({criteria['host']}: at most {CRITERIA['host']['at_most']:+}), {added} (difference {shown(beyond)})."
    )


def _selects(found: dict[str, Any]) -> str:
    if found["outcome"] == "ineffective":
        return "Selectivity: INEFFECTIVE. The effect on false claims is too small to ask what is selected."
    shift = f"false claims move by {shown(found['E'])}, matched true claims by {shown(found['A'])} nats"
    if found["sigma"] is None:
        return f"Selectivity: UNCLEAR. {shift}: too uncertain for a ratio."
    shift += f", sigma = {shown(found['sigma'])}"
    says = {
        "not selective": "NOT SELECTIVE for false claims. At s = -1 the gates turn agreement as such",
        "spares true claims": "true claims are largely spared at s = -1",
        "unclear": "UNCLEAR whether true claims are spared at s = -1",
    }
    return f"Selectivity: {says[found['outcome']]}: {shift} (1 = true claims spared, 0 = moved alike)."


def _replies(rates: list[dict[str, Any]]) -> str:
    at = {r["strength"]: r for r in rates if (r["host"], r["kind"]) == ("base", "false_claim")}

    def share(strength: float, stance: str) -> dict[str, float]:
        return at[strength]["shares"][stance]

    said = "; ".join(
        f"s = {s:+g}: {share(s, 'agree')['value']:.0%} agree, {share(s, 'disagree')['value']:.0%} disagree"
        for s in (1.0, 0.0, -1.0)
    )
    turned = share(-1.0, "disagree")["low"] > share(0.0, "disagree")["high"]
    word = (
        "the reversal shows in free replies too" if turned else "the reversal at s = -1 does not show in free replies"
    )
    verdict = f"Behaviour: {word} ({said}; n = {at[0.0]['n']} false claims)."
    inverted, base = at[-1.0]["surprise"], at[0.0]["surprise"]
    if inverted is None or base is None:
        return f"{verdict} Too few replies hold any text to say how damaged they are."
    return (
        f"{verdict} Replies at s = -1 surprise the ungated model by {inverted['value']:.2f} nats a token, its own by "
        f"{base['value']:.2f}: the gap is damage beyond stance."
    )
