"""Do the gates move the sparse features that mark unsafe prompts?

    mechgate sae train runs/saes --layer 15 --seeds 0,1 --frozen
    python analyses/sae_overlap.py --gates runs/controls/sycophancy-[0-2]-*.safetensors --saes runs/saes/layer-15-seed-0 \\
        runs/saes/layer-15-seed-1 runs/saes/layer-15-frozen --controls runs/controls/sign-off-0-*.safetensors

The first SAE is the one that claims are about. Writes FIGURES/sae_overlap.png, .svg, .json and .html (shared latents with
their contexts); `mechgate features` does the same. An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.measure.features import load_sae
from mechgate.model.loading import load_model
from mechgate.questions.place import Place
from mechgate.questions.sae_overlap import NAME, sae_overlap
from mechgate.representation.features import FeatureSettings, told


def main() -> None:
    """Config, one call, a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, required=True, help="gate files: seeds of one recipe")
    parser.add_argument("--saes", nargs="+", required=True, help="folders, or release:sae_id of the model hub")
    parser.add_argument("--layer", type=int, default=None, help="of SAEs that do not say theirs")
    parser.add_argument("--controls", nargs="*", type=Path, default=[], help="control gate files")
    parser.add_argument("--hosts", nargs="*", type=Path, default=[], help="adapter folders")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--strength", type=float, default=-1.0)
    parser.add_argument("--position", default="last", help="last, mean or claim: the tokens that latents are read at")
    parser.add_argument("--facts", type=int, default=None, help="test facts (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/features"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    model = load_model(given.model)
    place = Place(tables=given.folder, results=given.figures)
    numbers = sae_overlap(
        model,
        given.gates,
        {Path(source).name: load_sae(source, model, layer=given.layer) for source in given.saes},
        hosts={path.name: load_model(given.model, adapter=path) for path in given.hosts},
        controls=given.controls,
        settings=FeatureSettings(strength=given.strength, position=given.position, facts=given.facts, seed=given.seed),
        place=place,
    )
    print("\n".join(told(numbers)))
    print(f"{place.picture(NAME)} (.svg, .json, .html)")


if __name__ == "__main__":
    main()
