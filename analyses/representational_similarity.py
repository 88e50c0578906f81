"""Do gates change how unsafe prompts are represented, and leave safe ones? Is the knowledge kept while behaviour goes?

    python analyses/representational_similarity.py --gates sycophancy-*.safetensors --others sign-off-*.safetensors

Keeps what it measured in FOLDER, arm by arm, so that an interrupted run goes on; writes FOLDER/similarity.json and, in
FIGURES, layer curves and RDMs of every contrast with that JSON. `--facts 24 --questions 0 --positions last` is a
quick look.
"""

import argparse
import shutil
from pathlib import Path

from mechgate.model.loading import load_model
from mechgate.report.similarity import draw_similarity, print_similarity
from mechgate.representation.settings import SimilaritySettings, settings_of
from mechgate.representation.similarity import similarity
from mechgate.train.controls import controls_by_task

USUAL = SimilaritySettings()


def main() -> None:
    """Config, one call, figures, a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, required=True, help="gate files: seeds of one recipe")
    parser.add_argument("--others", nargs="*", type=Path, default=[], help="control gate files, or folders of them")
    parser.add_argument("--null-draws", type=int, default=USUAL.null_draws, help="a gate file and family")
    parser.add_argument("--null-families", nargs="*", default=list(USUAL.null_families))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--strengths", nargs="+", type=float, default=list(USUAL.strengths))
    parser.add_argument("--layers", nargs="+", type=int, default=None, help="default: all")
    parser.add_argument("--positions", nargs="+", default=list(USUAL.positions))
    parser.add_argument("--facts", type=int, default=USUAL.facts, help="evenly over domains")
    parser.add_argument("--phrasings", type=int, default=USUAL.phrasings)
    parser.add_argument("--questions", type=int, default=USUAL.questions, help="0: without harmful responses")
    parser.add_argument("--split", default=USUAL.split)
    parser.add_argument("--folds", type=int, default=USUAL.folds)
    parser.add_argument("--permutations", type=int, default=USUAL.permutations)
    parser.add_argument("--seed", type=int, default=USUAL.seed)
    parser.add_argument("--folder", type=Path, default=Path("runs/similarity"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = vars(parser.parse_args())
    gates, others, name, folder, figures = (given.pop(k) for k in ("gates", "others", "model", "folder", "figures"))
    settings = settings_of(**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
    numbers = similarity(load_model(name), gates, controls_by_task(others, gates), settings=settings, folder=folder)
    for path in draw_similarity(numbers, figures, told=f"{name}; "):
        print(path)
    if figures.resolve() != folder.resolve():
        shutil.copyfile(folder / "similarity.json", figures / "similarity.json")
    print_similarity(numbers, folder)


if __name__ == "__main__":
    main()
