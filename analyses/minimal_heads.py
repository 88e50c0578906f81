"""How few heads' gates keep the gates' effect, is that fewer than random heads, and do they act directly?

    python analyses/minimal_heads.py --gates runs/controls/sycophancy-0-*.safetensors

Faithfulness curves (only the first k heads' gates on, and these off) on test facts with orders made on dev facts, the
smallest set that keeps 90% beside random sets of the same layers, direct and indirect effects by layer. Writes
FIGURES/minimal_heads.json and, for each gate file, minimal_heads-NAME.png and .svg; `mechgate heads` does the same. An
interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.causality.head_numbers import told
from mechgate.causality.heads import HeadSettings
from mechgate.model.loading import load_model
from mechgate.questions.minimal_heads import NAME, minimal_heads
from mechgate.questions.place import Place


def main() -> None:
    """Config, one call, numbers."""
    usual = HeadSettings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, required=True, help="gate files")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--strengths", nargs="+", type=float, default=list(usual.strengths))
    parser.add_argument("--dev-facts", type=int, default=usual.dev_facts, help="for the orders of heads")
    parser.add_argument("--facts", type=int, default=usual.facts, help="test facts, for all effects")
    parser.add_argument("--exact", type=int, default=usual.exact, help="random sets measured exactly")
    parser.add_argument("--draws", type=int, default=usual.draws, help="random sets screened")
    parser.add_argument("--exact-band", action="store_true", help="19 random sets at every size, measured exactly")
    parser.add_argument("--knock-in", action="store_true", help="also order heads by exact single effects")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/minimal_heads"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    settings = HeadSettings(
        strengths=tuple(given.strengths),
        dev_facts=given.dev_facts,
        facts=given.facts,
        exact=given.exact,
        draws=given.draws,
        exact_band=given.exact_band,
        knock_in=given.knock_in,
        seed=given.seed,
    )
    place = Place(tables=given.folder, results=given.figures)
    print("\n".join(told(minimal_heads(load_model(given.model), given.gates, settings=settings, place=place))))
    print(f"{given.figures}/{NAME}-*.png (.svg), {NAME}.json")


if __name__ == "__main__":
    main()
