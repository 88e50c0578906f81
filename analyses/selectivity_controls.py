"""Do the gates select, or damp whatever is there? Nulls, trained controls, equal dose, hosts: verdict and figures.

    mechgate controls train runs/controls --tasks sycophancy,sign-off,unit-conversion,genuine-agreement,correct-advice,bad-advice,shuffled
    mechgate host train --recipe lora-sycophancy --domain medical --seed 0
    python analyses/selectivity_controls.py --gates runs/controls/sycophancy-*.safetensors --controls runs/controls \
        --hosts hosts/lora-sycophancy-medical-0

Writes every table to FOLDER (`mechgate selectivity` does the same) and FIGURES/selectivity-{dose,plane,nulls}.png, .svg,
with selectivity.json beside them. An interrupted run goes on.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import mechgate as mg
from mechgate.referee import SelectivitySettings, selectivity
from mechgate.report.selectivity import print_selectivity
from mechgate.report.selectivity_figures import draw_dose, draw_nulls, draw_plane
from mechgate.train.controls import controls_by_task

NAMES = ("False claims (wanted)", "True claims (unwanted)")


def main() -> None:
    """Config, one call, a table, three figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, default=[], help="gate files: seeds of one recipe")
    parser.add_argument("--controls", nargs="*", type=Path, default=[], help="control gate files, or their folder")
    parser.add_argument("--hosts", nargs="*", type=Path, default=[], help="adapter folders")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--quick", action="store_true", help="minutes instead of an hour and more")
    parser.add_argument("--folder", type=Path, default=Path("runs/selectivity"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    parser.add_argument("--redraw", action="store_true", help="draw FIGURES/selectivity.json again, measuring nothing")
    given = parser.parse_args()
    kept = given.figures / "selectivity.json"
    if not given.redraw:
        if not given.gates:
            parser.error("--gates is needed, or --redraw")
        settings = SelectivitySettings.quick() if given.quick else SelectivitySettings()
        model = mg.load_model(given.model)
        hosts = {path.name: mg.load_model(given.model, adapter=path) for path in given.hosts}
        controls = controls_by_task(given.controls, given.gates)
        numbers = selectivity(model, given.gates, hosts, controls, settings=settings, folder=given.folder).numbers
        print_selectivity(numbers, given.folder)
        given.figures.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given.folder / "selectivity.json", kept)
    _draw(json.loads(kept.read_text(encoding="utf-8"))["numbers"], given.model, given.figures)
    print(f"{given.figures}/selectivity-dose.png, -plane.png, -nulls.png (.svg), selectivity.json")


def _draw(numbers: dict[str, Any], model: str, figures: Path) -> None:
    base, strength, controls = numbers["contexts"]["base"], numbers["settings"]["strength"], numbers["controls"]
    start = (
        f"{model}, fp32. {len(base['nulls']['learned'])} gate set(s) of one recipe, each drawing facts, wordings and order "
        f"anew; {sum(map(len, controls.values()))} control sets of {len(controls)} tasks."
    )
    facts = base["plane"]["facts"]
    draw_dose(
        base,
        figures / "selectivity-dose.png",
        names=NAMES,
        caption=f"{start} Means over sets and {facts}\nunseen facts in unseen wordings, with 95% hierarchical bootstrap "
        "intervals; controls: means over sets; band: range of one row-sign null a gate set.\ns = +1 trained, 0 no gate, -1 "
        "inverted. Odd part (f(s) - f(-s))/2, even part (f(s) + f(-s))/2 - f(0): to first order any gate is odd.",
    )
    draw_plane(
        base,
        strength,
        figures / "selectivity-plane.png",
        names=NAMES,
        caption=f"{start} Learned gates and controls: means over {facts} facts.\na: null gates of equal RMS(g - 1), "
        f"means over {base['nulls']['facts']} of these facts. b: nulls (one a family and set) and controls at the "
        "strength, up to 20, where KL(base || gated)\non neutral text equals the learned gates'. Points on A = E turn "
        "agreement as such.",
    )
    draw_nulls(
        base["nulls"],
        figures / "selectivity-nulls.png",
        caption=f"{start} s = {strength:+g}; exact: means over {base['nulls']['facts']} facts,\nall sets' draws; first order: "
        f"one gradient pass over {facts} facts (families computed draw by draw: the exact draws' facts), first gate set. "
        "r and p are the first set's.\np: coherence (were the parts learned together?), not selectivity.",
    )


if __name__ == "__main__":
    main()
