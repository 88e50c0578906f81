"""Can gates be made selective? Other objectives and forms, on one plane with the paper's imitation.

    python analyses/objectives.py --gates runs/controls --seeds 0 1 2 --names imitate contrastive two-sided two-sided-truth

Trains what is missing in GATES (minutes a gate set), measures every variant's axis, dose and damage, and writes
FIGURES/objectives.png, .svg and .json. Nulls and controls belong to selectivity_controls.py. An interrupted run goes on.
"""

import argparse
from pathlib import Path
from typing import Any

import mechgate as mg
from mechgate.referee import SelectivitySettings, selectivity
from mechgate.report.objectives import draw_objectives
from mechgate.report.results import write_result
from mechgate.train.controls import LEARNED, VARIANT
from mechgate.train.families import Member
from mechgate.train.variants import VARIANTS, train_variants

QUESTION = "Can another objective or form make the gates spare true claims?"
LEAN: dict[str, Any] = dict(strengths=(-1.0, 1.0), families=(), exact_families=(), dosed_families=())


def main() -> None:
    """Config, training, one call a variant, a table, a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=Path, default=Path("runs/controls"), help="folder of the gate files")
    parser.add_argument("--names", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--domain", default="medical")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--facts", type=int, default=None, help="facts of the verdict (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    model = mg.load_model(given.model)
    members = train_variants(model, given.gates, names=given.names, seeds=given.seeds, domain=given.domain)
    settings = SelectivitySettings(**LEAN, facts=given.facts)
    found = {}
    for name in given.names:
        paths = [m.path for m in members if _variant(m) == name]
        report = selectivity(model, paths, settings=settings, folder=given.folder)
        base = report.numbers["contexts"]["base"]
        found[name] = {
            "what": VARIANTS[name].what,
            "verdict": base["verdict"]["outcome"],
            "kl": sum(base["dose"]["kl"].values()) / len(paths),
            **{key: base[key] for key in ("axes", "sets", "spared", "described", "interaction")},
        }
        print(_line(name, found[name]))
    write_result(
        given.figures / "objectives.json",
        question=QUESTION,
        numbers=found,
        settings={**settings.model_dump(mode="json"), "seeds": given.seeds, "domain": given.domain},
        hashes={"gates": [member.path.name for member in members]},
    )
    axes = next(iter(found.values()))["axes"]
    facts = ", ".join(f"{label}: {axes[label][0]['facts']} facts" for label in axes)
    draw_objectives(
        found,
        given.figures / "objectives.png",
        caption=f"{given.model}, fp32; {len(given.seeds)} seed(s) a variant; s = -1; {facts}. Means with 95% hierarchical "
        "bootstrap intervals over seeds and facts.\nSmall marks: each seed (all facts). On A = E true claims move as much.",
    )
    print(f"{given.figures}/objectives.png (.svg, .json)")


def _variant(member: Member) -> str:
    return "imitate" if member.task == LEARNED else member.task.removeprefix(VARIANT)


def _line(name: str, entry: dict[str, Any]) -> str:
    axis = entry["axes"]["all"][0]
    spans = [axis["effect"], axis["side_effect"], axis["sigma"]]
    cells = ["-" if e is None else f"{e['value']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]" for e in spans]
    return f"{name}: E {cells[0]}, A {cells[1]}, sigma {cells[2]}, KL {entry['kl']:.3f}: {entry['verdict']}"


if __name__ == "__main__":
    main()
