"""Sections on the instrument itself: does it find what is planted, and does it err as rarely as it says?"""

from typing import Any

from mechgate.report.sections.parts import Section, Table, cell, p_value, share


def planted_truth(result: dict[str, Any]) -> Section:
    """Recovery of planted heads by every method (`planted.summary.summarise`)."""
    rows, primary = [], {}
    for kind, methods in result["numbers"]["rows"].items():
        for method, row in sorted(methods.items(), key=lambda item: -item[1]["auroc"]["value"]):
            auroc, precision = (cell(row[key]).replace("+", "") for key in ("auroc", "precision"))
            p = p_value(row.get("p, Holm", row["p"])["layers"])
            rows.append((method, kind, row["verdict"], str(row["n"]), auroc, precision, f"{row['chance']:.2f}", p))
            primary[f"{kind}, {method}: AUROC"] = row["auroc"]
    plants = result["numbers"]["plants"]
    return Section(
        label="Planted truth",
        how=(
            (
                "Estimator",
                "AUROC and precision at the true number of heads, mean over plants and seeds of gates; 95% intervals.",
            ),
            (
                "Null",
                "random heads of the same layers, and of the whole model; Holm over the methods of a kind of truth.",
            ),
            ("n", f"{len(plants)} plants."),
        ),
        tables=(
            Table(
                caption="How well each method finds the true heads; AUROC .5 is chance; p within layers, Holm.",
                columns=("Method", "Truth", "Verdict", "n", "AUROC", "Precision", "Chance", "p"),
                rows=tuple(rows),
                words=3,
            ),
        ),
        caveats=("What holds for heads planted in small models need not hold for behaviour that training spread out.",),
        alts={"": "AUROC with intervals of each method on each kind of truth, and mean ROC curves."},
        primary=primary,
    )


def calibration(result: dict[str, Any]) -> Section:
    """Error rates in null worlds, uniformity of p-values and power (`calibration.summary`)."""
    numbers = result["numbers"]
    worlds, tests = numbers.get("worlds", {}), numbers.get("tests", {})
    if not worlds and not tests:
        raise KeyError("worlds")
    nulls = {f"{name}: {test}": one for name, world in worlds.items() for test, one in world["p"].items()} | tests
    wrong = tuple(
        (
            name,
            one["what"],
            str(one["n"]),
            share(one["wrong"]["share"], 1),
            f"{one['wrong']['limit']:.1%}",
            _within(one["wrong"]),
        )
        for name, one in worlds.items()
    )
    called = sorted({outcome for point in numbers.get("power", []) for outcome in point["outcomes"]})
    power = tuple(
        (
            *(f"{p['sets']} sets, {p['facts']} facts", f"{p['sigma']:g}", str(p["n"])),
            *(share(p["outcomes"].get(outcome)) for outcome in called),
        )
        for p in numbers.get("power", [])
    )
    rejected = tuple(
        (
            name,
            str(one["rejections"]["share"]["n"]),
            share(one["rejections"]["share"], 1),
            f"{one['rejections']['limit']:.1%}",
            p_value(one["p"]),
            _within(one["rejections"]),
        )
        for name, one in nulls.items()
    )
    tables = [
        Table(
            caption="Null worlds: how often the verdict is wrong, with its limit (nominal rate and two standard errors).",
            columns=("World", "What holds", "n", "Wrong verdicts", "Limit", "Within"),
            rows=wrong,
            words=2,
        ),
        Table(
            caption="True nulls rejected at 5% and uniformity of their p-values.",
            columns=("Test", "n", "Rejected", "Limit", "p of uniformity", "Within"),
            rows=rejected,
        ),
        Table(
            caption="Verdicts by true sigma.",
            columns=("Design", "sigma", "n", *map(str.capitalize, called)),
            rows=power,
        ),
    ]
    return Section(
        label="Calibration",
        how=(
            ("Estimator", "shares over simulations, with Clopper–Pearson 95% intervals."),
            (
                "Null",
                "worlds in which the truth is known by construction: inert gates, unrelated training, the bound itself.",
            ),
            (
                "n",
                f"{sum(w['n'] for w in worlds.values())} simulated analyses of {len(worlds)} worlds; {len(tests)} tests.",
            ),
        ),
        findings=_failures(numbers.get("not calibrated")),
        tables=tuple(table for table in tables if table.rows),
        caveats=(
            "Simulations share the form of the model they were drawn from; they bound errors of the rule, not of the data.",
        ),
        alts={"": "Rates of wrong verdicts with their limits, p-values against the uniform, and power by true sigma."},
        primary={f"{name}: wrong verdicts": one["wrong"]["share"] for name, one in worlds.items()},
    )


def _failures(lines: list[str] | None) -> tuple[str, ...]:
    """What fails in words; nothing is claimed where a result does not say."""
    return () if lines is None else tuple(lines) or ("Nothing that was tested is miscalibrated.",)


def _within(rate: dict[str, Any]) -> str:
    return "yes" if rate["within"] else "no"
