"""Which heads do gates target? Maps of layers x heads over several gate seeds, beside what other gates give.

    python analyses/which_heads.py --gates sycophancy-*.safetensors --others sign-off-*.safetensors --null-draws 3

Keeps a table a gate file in FOLDER, so that an interrupted run goes on; writes FIGURES/which_heads.png, .svg and .json.
`--facts 12 --phrasings 1` is a quick look.
"""

import argparse
from pathlib import Path

from mechgate.analysis.attribution import NODES
from mechgate.model.loading import load_model
from mechgate.questions.place import Place
from mechgate.questions.which_heads import NAME, AtlasSettings, which_heads
from mechgate.train.controls import controls_by_task


def main() -> None:
    """Config, one call."""
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
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = vars(parser.parse_args())
    gates, others, model, folder, figures = (given.pop(k) for k in ("gates", "others", "model", "folder", "figures"))
    place = Place(tables=folder, results=figures)
    controls = controls_by_task(others, gates)
    which_heads(load_model(model), gates, controls, settings=AtlasSettings(**given), place=place)
    print(f"{place.picture(NAME)} (.svg, .json)")


if __name__ == "__main__":
    main()
