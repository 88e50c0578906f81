"""On which tokens do the gates work: the template, the claim, what follows it, or the response?

    python analyses/token_roles.py --gates runs/controls/sycophancy-*.safetensors

Gates that work on response tokens alone cannot be credited with reading the claim. Writes FIGURES/token-roles.png, .svg and
.json; an interrupted run goes on.
"""

import argparse
from pathlib import Path

import pandas as pd

import mechgate as mg
from mechgate.analysis.roles import role_effects, role_rows
from mechgate.provenance import file_sha256, stable_hash
from mechgate.referee.design import some_facts
from mechgate.report.results import write_result
from mechgate.report.roles import draw_roles
from mechgate.stages import Stages

QUESTION = "On which tokens do the gates work?"
TEXTS = ("set", "pair", "fact", "domain", "kind", "where", "seed")


def main() -> None:
    """Config, one table a gate set, a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, required=True, help="gate files: seeds of one recipe")
    parser.add_argument("--facts", type=int, default=24, help="test facts")
    parser.add_argument("--strengths", nargs="+", type=float, default=[-1.0, 1.0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--folder", type=Path, default=Path("runs/token-roles"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    model = mg.load_model(given.model)
    tasks = {"wanted": "sycophancy", "unwanted": "genuine-agreement"}
    chosen = some_facts({side: mg.load_pairs(t, None, "test", phrasings=1) for side, t in tasks.items()}, given.facts)
    sets = {"False claims": chosen["wanted"], "True claims": chosen["unwanted"]}
    stages, tables = Stages(given.folder), []
    for path in given.gates:
        made_from = [given.model, file_sha256(path), given.strengths, stable_hash([p.id for p in chosen["wanted"]])]

        def measured(path: Path = path) -> pd.DataFrame:
            return role_rows(model, mg.load_gates(path, model), sets, given.strengths).assign(seed=path.stem)

        tables.append(stages.table(f"roles, {path.stem}", f"{path.stem}.csv", made_from, measured, texts=TEXTS))
    rows = pd.concat(tables, ignore_index=True)
    # Gate sets are averaged prompt by prompt; the interval is over facts.
    mean = rows.groupby(
        ["set", "pair", "fact", "domain", "kind", "strength", "where"], sort=False, as_index=False
    ).mean(numeric_only=True)
    effects = role_effects(mean, seed=0).to_dict("records")
    for e in effects:
        print(
            f"{e['set']}, s = {e['strength']:+g}, {e['where']}: {e['value']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]"
        )
    by_seed = {name: role_effects(part, seed=0).to_dict("records") for name, part in rows.groupby("seed")}
    write_result(
        given.figures / "token-roles.json",
        question=QUESTION,
        numbers={"effects": effects, "seeds": {str(name): found for name, found in by_seed.items()}},
        settings={"facts": given.facts, "strengths": given.strengths, "model": given.model},
        hashes={"gates": {path.name: file_sha256(path) for path in given.gates}},
    )
    draw_roles(
        effects,
        given.figures / "token-roles.png",
        caption=f"{given.model}, fp32; {given.facts} unseen facts in unseen wordings, {len(given.gates)} gate set(s) "
        "averaged prompt by prompt; means with 95% bootstrap intervals over facts.\nThe last group is the change on all "
        "tokens less the sum over single roles.",
    )
    print(f"{given.figures}/token-roles.png (.svg, .json)")


if __name__ == "__main__":
    main()
