"""Do the gates move the sparse features that mark unsafe prompts?

    mechgate sae train runs/saes --layer 15 --seeds 0,1 --frozen
    python analyses/sae_overlap.py --gates runs/controls/sycophancy-[0-2]-*.safetensors --saes runs/saes/layer-15-seed-0 \\
        runs/saes/layer-15-seed-1 runs/saes/layer-15-frozen --controls runs/controls/sign-off-0-*.safetensors

The first SAE is the one that claims are about. Writes FIGURES/sae-overlap.png, .svg, .json and .html (shared latents with
their contexts); `mechgate features` does the same. An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.errors import InputError
from mechgate.gates.storage import load_gates
from mechgate.measure.features import load_sae
from mechgate.model.loading import load_model
from mechgate.provenance import file_sha256
from mechgate.report.features import draw_features, write_latents
from mechgate.report.results import write_result
from mechgate.representation.features import QUESTION, FeatureSettings, features, told


def main() -> None:
    """Config, one call, a table, a figure."""
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
    files = [*given.gates, *given.controls]
    if len({path.stem for path in files}) != len(files):
        raise InputError("gate files need different names", got=[path.name for path in files])
    settings = FeatureSettings(strength=given.strength, position=given.position, facts=given.facts, seed=given.seed)
    model = load_model(given.model)
    numbers = features(
        model,
        {path.stem: load_gates(path, model) for path in given.gates},
        {Path(source).name: load_sae(source, model, layer=given.layer) for source in given.saes},
        hosts={path.name: load_model(given.model, adapter=path) for path in given.hosts},
        controls={path.stem: load_gates(path, model) for path in given.controls},
        settings=settings,
        folder=given.folder,
    )
    for line in told(numbers):
        print(line)
    target = given.figures / "sae-overlap.png"
    hashes = {"gates": {path.name: file_sha256(path) for path in files}}
    write_result(
        target.with_suffix(".json"),
        question=QUESTION,
        numbers=numbers,
        settings={**settings.model_dump(mode="json"), "model": given.model},
        hashes=hashes,
    )
    first = next(iter(numbers["saes"].values()))
    draw_features(
        numbers,
        target,
        caption=f"{given.model}, layer {first['layer']}; {first['living']} living latents in {first['clusters']} clusters; s = "
        f"{settings.strength:+g}; gates read on {numbers['facts'] // 2} test facts, claims on as many others, {settings.position} "
        f"token(s) of the prompt.\nLatents chosen by Benjamini-Hochberg (q = .05) on half of these facts and confirmed on the "
        f"other half. {len(numbers['gates'])} gate set(s); permutation within deciles of firing rate and decoder norm "
        f"({settings.permutations} draws).",
    )
    write_latents(numbers, target.with_suffix(".html"))
    print(f"{target} (.svg, .json, .html)")


if __name__ == "__main__":
    main()
