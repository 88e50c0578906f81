"""Which heads do gates target? Maps of layers x heads over several gate seeds, beside what other gates give.

    python analyses/which_heads.py --gates sycophancy-*.safetensors --others sign-off-*.safetensors --null-draws 3

Keeps a table a gate file in FOLDER, so that an interrupted run goes on; writes FOLDER/results.json and
FIGURE.png, .svg and .json. `--facts 12 --phrasings 1` is a quick look.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from mechgate.analysis.atlas import activity_rows, atlas_numbers, by_head, head_rows
from mechgate.analysis.attribution import NODES, integrated_attribution
from mechgate.data.tasks import dataset_hashes, load_pairs
from mechgate.errors import InputError
from mechgate.gates.nulls import null_gates
from mechgate.gates.storage import load_gates, read_header
from mechgate.model.loading import fingerprint, load_model
from mechgate.provenance import file_sha256
from mechgate.report.atlas import draw_atlas
from mechgate.report.results import write_result
from mechgate.stages import Stages

QUESTION = "Which heads do the gates act in, where does a false claim change that, and which heads move the stance?"
TEXTS = ("fact", "domain")


def main() -> None:
    """Config, tables, numbers, a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, required=True, help="gate files: seeds of one recipe")
    parser.add_argument("--others", nargs="*", type=Path, default=[], help="control gates: what else was learned")
    parser.add_argument("--null-draws", type=int, default=1, help="null gates drawn from each of --gates")
    parser.add_argument("--null-family", default="row-sign")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--strength", type=float, default=1.0, help="of the gates while they are looked at")
    parser.add_argument("--split", default="test")
    parser.add_argument("--facts", type=int, default=None, help="how many, evenly over domains (default: all)")
    parser.add_argument("--phrasings", type=int, default=2)
    parser.add_argument("--nodes", type=int, default=NODES, help="of the integral along strength")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/which_heads"))
    parser.add_argument("--figure", type=Path, default=Path("figures/which_heads.png"))
    given = parser.parse_args()
    files = [*given.gates, *given.others]
    if len({path.stem for path in files}) != len(files):
        raise InputError("gate files need different names", got=[path.name for path in files])

    claims = [load_pairs(t, None, given.split, phrasings=given.phrasings) for t in ("sycophancy", "genuine-agreement")]
    facts = sorted({pair.fact_id for pair in claims[0]})
    kept = facts if given.facts is None else facts[:: max(1, len(facts) // given.facts)][: given.facts]
    false, true = ([pair for pair in pairs if pair.fact_id in kept] for pairs in claims)
    model = load_model(given.model)
    stages = Stages(given.folder)
    asked = [fingerprint(model), given.strength, kept, given.split, given.phrasings, given.nodes]

    def contributions(gates: Any) -> pd.DataFrame:
        units = integrated_attribution(model, gates, false, strength=given.strength, nodes=given.nodes)
        return head_rows(by_head(units, gates), gates, false)

    activity, attribution, others = [], [], []
    hashes = {path: file_sha256(path) for path in files}
    for number, path in enumerate(files, 1):
        name, title = path.stem, f"{number}/{len(files)} {path.stem}"
        key = [*asked, hashes[path]]
        rows = stages.table(
            f"{title}: attribution",
            f"attribution-{name}.csv",
            key,
            lambda path=path: contributions(load_gates(path, model)),
            texts=TEXTS,
        )
        if path in given.others:
            family = read_header(path)["history"].get("task", name)
            others.append(rows.assign(seed=name, family=family))
            continue
        attribution.append(rows.assign(seed=name))
        looked = stages.table(
            f"{title}: activity",
            f"activity-{name}.csv",
            key,
            lambda path=path: activity_rows(model, load_gates(path, model), false, true, strength=given.strength),
            texts=TEXTS,
        )
        activity.append(looked.assign(seed=name))
        for draw in range(given.null_draws):

            def null(path: Path = path, draw: int = draw) -> pd.DataFrame:
                return contributions(null_gates(load_gates(path), family=given.null_family, seed=draw, model=model))

            kind = f"{given.null_family}-{draw}"
            rows = stages.table(f"{title}: {kind}", f"{kind}-{name}.csv", [*key, draw], null, texts=TEXTS)
            others.append(rows.assign(seed=f"{name}, {draw}", family=given.null_family))

    whole = pd.concat(others, ignore_index=True) if others else None
    numbers = atlas_numbers(pd.concat(activity), pd.concat(attribution), others=whole, seed=given.seed)
    settings = json.loads(json.dumps(vars(given), default=str))
    made_of = {"data": dataset_hashes(), "gates": {str(path): digest for path, digest in hashes.items()}}
    written = write_result(
        given.folder / "results.json", question=QUESTION, numbers=numbers, settings=settings, hashes=made_of
    )
    caption = (
        f"{given.model}; means over {numbers['n']} facts and {len(given.gates)} gate seed(s) at s = {given.strength:+g}. "
        "Filled dots (positive) and rings (negative): max-T p ≤ .05\nover the map, clusters are facts. a, b: tokens of "
        "the user's turn; c: integrated from s = 0 on false claims, units summed to heads."
    )
    draw_atlas(numbers, given.figure, caption=caption)
    shutil.copyfile(written, given.figure.with_suffix(".json"))
    print(f"{given.figure} (.svg, .json)")


if __name__ == "__main__":
    main()
