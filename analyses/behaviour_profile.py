"""What do gates change, wanted and unwanted? Measures it (or reuses what is kept) and draws the behaviour profile.

    python analyses/behaviour_profile.py --gates g0.safetensors g1.safetensors --hosts hosts/lora-sycophancy-medical-0

Writes FOLDER/results.json and a row a prompt as CSV (`mechgate eval` does the same), and FIGURE.png, .svg and .json.
"""

import argparse
import shutil
from pathlib import Path

from mechgate.evaluation import EvalSettings, run_eval
from mechgate.report.profile import draw_profile
from mechgate.report.terminal import print_eval


def main() -> None:
    """Config, one call, a table, a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", required=True, help="gate files; several are seeds of one recipe")
    parser.add_argument("--hosts", nargs="*", default=[], help="adapter folders, or gate files put on at strength +1")
    parser.add_argument("--strengths", nargs="+", type=float, default=[-1.0, 0.0, 1.0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--phrasings", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/eval"))
    parser.add_argument("--figure", type=Path, default=Path("figures/behaviour_profile.png"))
    given = parser.parse_args()
    settings = EvalSettings(
        model=given.model,
        gates=tuple(given.gates),
        hosts=tuple(given.hosts),
        strengths=tuple(given.strengths),
        phrasings=given.phrasings,
    )
    numbers = run_eval(given.folder, settings)
    print_eval(numbers, given.folder)
    n = {entry["line"]: entry["n"] for entry in numbers["table"] if entry["subset"] == "all"}
    caption = (
        f"{given.model}; means with 95% intervals over {n['stance margin, false claims']} test facts, "
        f"{n['four-choice margin']} items or {n['perplexity, prose']} passages; {len(given.gates)} gate set(s), averaged "
        "prompt by prompt,\neach one's mean as a tick to the left. s = +1 trained, 0 no gate, -1 inverted."
    )
    draw_profile(numbers["table"], given.figure, caption=caption)
    shutil.copyfile(given.folder / "results.json", given.figure.with_suffix(".json"))
    print(f"{given.figure} (.svg, .json)")


if __name__ == "__main__":
    main()
