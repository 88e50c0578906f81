"""Do the gates select, or damp whatever is there? Nulls, trained controls, equal dose, hosts: verdict and figures.

    mechgate controls train runs/controls --tasks sycophancy,sign-off,unit-conversion,genuine-agreement,correct-advice,bad-advice,shuffled
    mechgate host train --recipe lora-sycophancy --domain medical --seed 0
    python analyses/selectivity_controls.py --gates runs/controls/sycophancy-*.safetensors --controls runs/controls \
        --hosts hosts/lora-sycophancy-medical-0

Writes every table to FOLDER (`mechgate selectivity` does the same) and FIGURES/selectivity-{dose,plane,nulls}.png, .svg,
with selectivity.json beside them. An interrupted run goes on.
"""

import argparse
from pathlib import Path

import mechgate as mg
from mechgate.questions.place import Place
from mechgate.questions.selectivity import NAME, draw, judged
from mechgate.referee import SelectivitySettings
from mechgate.report.results import read_result
from mechgate.report.selectivity import print_selectivity
from mechgate.train.controls import controls_by_task


def main() -> None:
    """Config, one call, a table."""
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
    if given.redraw:
        draw(read_result(given.figures / f"{NAME}.json")["numbers"], given.figures, told=f"{given.model}, fp32")
    else:
        if not given.gates:
            parser.error("--gates is needed, or --redraw")
        model = mg.load_model(given.model)
        report = judged(
            model,
            given.gates,
            hosts={path.name: mg.load_model(given.model, adapter=path) for path in given.hosts},
            controls=controls_by_task(given.controls, given.gates),
            settings=SelectivitySettings.quick() if given.quick else SelectivitySettings(),
            place=Place(tables=given.folder, results=given.figures),
        )
        print_selectivity(report.numbers, given.folder)
    print(f"{given.figures}/selectivity-dose.png, -plane.png, -nulls.png (.svg), selectivity.json")


if __name__ == "__main__":
    main()
