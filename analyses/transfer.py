"""Do gates trained on one domain act in the others? Trains them (or finds them trained), measures, draws the matrix.

    python analyses/transfer.py --domains medical finance science --seeds 0 1 2 --gates runs/transfer/gates

Keeps a table a gate file in FOLDER, so that an interrupted run goes on; writes FIGURES/transfer.png, .svg and .json.
"""

import argparse
from pathlib import Path
from typing import Any

from mechgate.data.facts import domains
from mechgate.model.loading import load_model
from mechgate.questions.place import Place
from mechgate.questions.transfer import NAME, TransferSettings, told, transfer
from mechgate.train.controls import train_family


def main() -> None:
    """Config, gates, one call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=list(domains()), help="of training and of test")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--strengths", nargs="+", type=float, default=[-1.0, 1.0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--examples", type=int, default=180, help="training examples a gate set")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--split", default="test")
    parser.add_argument("--phrasings", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    parser.add_argument("--gates", type=Path, default=Path("runs/transfer/gates"), help="folder of the gate files")
    parser.add_argument("--folder", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    model = load_model(given.model)
    recipe: dict[str, Any] = dict(tasks=("sycophancy",), seeds=given.seeds, n=given.examples, epochs=given.epochs)
    gates = {
        domain: [member.path for member in train_family(model, given.gates, domain=domain, **recipe)]
        for domain in given.domains
    }
    settings = TransferSettings(
        strengths=tuple(given.strengths), split=given.split, phrasings=given.phrasings, seed=given.seed
    )
    place = Place(tables=given.folder, results=given.figures)
    print("\n".join(told(transfer(model, gates, settings=settings, place=place))))
    print(f"{place.picture(NAME)} (.svg, .json)")


if __name__ == "__main__":
    main()
