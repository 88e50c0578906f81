"""Can gates be made selective? Other objectives and forms, on one plane with the paper's imitation.

    python analyses/objectives.py --gates runs/controls --seeds 0 1 2 --names imitate contrastive two-sided two-sided-truth

Trains what is missing in GATES (minutes a gate set), measures every variant's axis, dose and damage, and writes
FIGURES/objectives.png, .svg and .json. Nulls and controls belong to selectivity_controls.py. An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.model.loading import load_model
from mechgate.questions.objectives import LEAN, NAME, objectives
from mechgate.questions.place import Place
from mechgate.referee import SelectivitySettings
from mechgate.train.variants import VARIANTS, train_variants


def main() -> None:
    """Config, training, one call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=Path, default=Path("runs/controls"), help="folder of the gate files")
    parser.add_argument("--names", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--domain", default="medical")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--facts", type=int, default=LEAN["facts"], help="facts of the verdict")
    parser.add_argument("--folder", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    model = load_model(given.model)
    variants = {
        name: [
            member.path
            for member in train_variants(model, given.gates, names=[name], seeds=given.seeds, domain=given.domain)
        ]
        for name in given.names
    }
    place = Place(tables=given.folder, results=given.figures)
    what = {name: VARIANTS[name].what for name in given.names}
    settings = SelectivitySettings(**{**LEAN, "facts": given.facts})
    objectives(model, variants, what=what, settings=settings, place=place)
    print(f"{place.picture(NAME)} (.svg, .json)")


if __name__ == "__main__":
    main()
