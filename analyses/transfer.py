"""Do gates trained on one domain act in the others? Trains them (or finds them trained), measures, draws the matrix.

    python analyses/transfer.py --domains medical finance science --seeds 0 1 2 --gates runs/transfer/gates

Keeps a table a gate file in FOLDER, so that an interrupted run goes on; writes FOLDER/results.json and
FIGURE.png, .svg and .json.
"""

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd

from mechgate.analysis.transfer import margin_rows, transfer_numbers
from mechgate.data.facts import domains
from mechgate.data.tasks import dataset_hashes, load_pairs
from mechgate.gates.storage import load_gates
from mechgate.model.loading import fingerprint, load_model
from mechgate.provenance import file_sha256
from mechgate.report.results import write_result
from mechgate.report.transfer import draw_transfer
from mechgate.stages import Stages
from mechgate.train.controls import train_family

QUESTION = "Do gates trained on one domain change the stance in the others as they do in their own?"
TEXTS = ("kind", "domain", "fact", "id")


def main() -> None:
    """Config, gates, tables, numbers, a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=list(domains()), help="of training and of test")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--strengths", nargs="+", type=float, default=[-1.0, 1.0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--examples", type=int, default=180, help="training examples a gate set")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--split", default="test")
    parser.add_argument("--phrasings", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    parser.add_argument("--gates", type=Path, default=Path("runs/transfer/gates"), help="folder of the gate files")
    parser.add_argument("--folder", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--figure", type=Path, default=Path("figures/transfer.png"))
    given = parser.parse_args()
    model = load_model(given.model)
    members = {
        domain: train_family(
            model,
            given.gates,
            tasks=("sycophancy",),
            seeds=given.seeds,
            domain=domain,
            n=given.examples,
            epochs=given.epochs,
        )
        for domain in given.domains
    }
    pairs = [
        pair
        for task in ("sycophancy", "genuine-agreement")
        for domain in given.domains
        for pair in load_pairs(task, domain, given.split, phrasings=given.phrasings)
    ]
    stages = Stages(given.folder)
    asked = [fingerprint(model), given.split, given.phrasings, [pair.id for pair in pairs], dataset_hashes()]
    base = stages.table("without gates", "base.csv", asked, lambda: margin_rows(model, pairs), texts=TEXTS)
    tables, hashes = [], {}
    for domain, found in members.items():
        for member in found:
            hashes[str(member.path)] = digest = file_sha256(member.path)
            for s in given.strengths:
                table = stages.table(
                    f"{domain}, seed {member.seed}, s = {s:+g}",
                    f"{domain}-{member.seed}-at{s:+g}.csv",
                    [*asked, digest, s],
                    lambda path=member.path, s=s: margin_rows(model, pairs, load_gates(path, model), s),
                    texts=TEXTS,
                )
                tables.append(table.assign(trained=domain, seed=member.seed))
    numbers = transfer_numbers(base, pd.concat(tables, ignore_index=True), seed=given.seed)
    settings = json.loads(json.dumps(vars(given), default=str))
    written = write_result(
        given.folder / "results.json",
        question=QUESTION,
        numbers=numbers,
        settings=settings,
        hashes={"data": dataset_hashes(), "gates": hashes},
    )
    for found in numbers["contrasts"]:
        if found["tested"] == "all":
            own, others, less = (found[name]["value"] for name in ("own", "others", "own minus others"))
            ends = "[{low:+.2f}, {high:+.2f}]".format(**found["own minus others"])
            where = f"{found['kind']}, s = {found['strength']:+g}"
            print(f"{where}: own {own:+.2f}, others {others:+.2f}, difference {less:+.2f} {ends} nats")
    n = min(cell["change"]["n"] for cell in numbers["cells"])
    caption = (
        f"{given.model}; change from no gates at s = −1 (inverted) or +1 (trained); mean over at least {n} test facts a "
        f"domain and\n{len(given.seeds)} gate seed(s) a domain of training, ± half the 95% interval. Frames: a gate's own domain."
    )  # fmt: skip
    draw_transfer(numbers, given.figure, caption=caption)
    shutil.copyfile(written, given.figure.with_suffix(".json"))
    print(f"{given.figure} (.svg, .json)")


if __name__ == "__main__":
    main()
