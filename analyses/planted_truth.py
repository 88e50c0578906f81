"""How far can each method be trusted to find the heads that carry a behaviour?

    python analyses/planted_truth.py
    python analyses/planted_truth.py --model smollm2-135m --plants 3 --seeds 0 --objectives corrected,base-trained \\
        --examples 64 --claims 12 --patched 2 --epochs 1

Plants behaviour in known heads of small models trained here (gates frozen in; LoRA in these heads' slices of W_Q and W_O), trains
models with a known circuit, plants selective gates, and measures which methods rank the true heads first. Writes
FIGURES/planted-truth.png, .svg and .json; `mechgate planted` does the same. An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.planted.benchmark import QUESTION, SMALL, PlantSettings, run_plants, write_measured
from mechgate.planted.summary import summarise, told
from mechgate.provenance import file_sha256
from mechgate.report.planted import draw_planted
from mechgate.report.results import write_result


def main() -> None:
    """Config, one call, a table, a figure."""
    usual = PlantSettings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=usual.model, help=f"{SMALL}, or a model to plant hosts in")
    parser.add_argument("--bases", type=int, default=usual.bases, help="small models")
    parser.add_argument("--plants", type=int, default=usual.plants, help="plants in another model than small")
    parser.add_argument("--sizes", default=",".join(map(str, usual.sizes)), help="heads a plant")
    parser.add_argument("--seeds", default=",".join(map(str, usual.seeds)), help="of gates and probes")
    parser.add_argument("--circuits", action=argparse.BooleanOptionalAction, default=usual.circuits)
    parser.add_argument("--objectives", default=",".join(usual.objectives))
    for name in ("examples", "claims", "patched", "epochs", "plant_epochs"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(usual, name))
    for name in ("lr", "plant_lr"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(usual, name))
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = vars(parser.parse_args())
    folder, figures = given.pop("folder"), given.pop("figures")
    for name in ("sizes", "seeds", "objectives"):
        given[name] = tuple(given[name].split(","))
    settings = PlantSettings(**given)

    found = run_plants(folder, settings)
    numbers = summarise(found, draws=settings.draws)
    print("\n".join(told(numbers)))
    maps = write_measured(found, folder / "maps.json")
    target = figures / (
        "planted-truth.png" if settings.model == SMALL else f"planted-truth-{Path(settings.model).name}.png"
    )
    write_result(
        target.with_suffix(".json"),
        question=QUESTION,
        numbers=numbers,
        settings=settings.model_dump(mode="json"),
        hashes={"maps": file_sha256(maps)},
    )
    gaps = [one["gap"] for one in numbers["plants"] if "gap" in one]
    where = f"{settings.bases} small models" if settings.model == SMALL else settings.model
    draw_planted(
        numbers,
        target,
        caption=f"{where}; hosts that agree with false claims through {' or '.join(map(str, settings.sizes))} known heads (their results put back, every logit is the base's to "
        f"{max(gaps):.0e}); {settings.claims} held-out claims, {settings.patched} of them patched;\n{len(settings.seeds)} seed(s) of gates and "
        "probes. Bars: 95%, hierarchical bootstrap over seeds, models and plants. n: plants. Gates are read at the strength that takes the "
        "behaviour away.",
    )
    print(f"{target} (.svg, .json)")


if __name__ == "__main__":
    main()
