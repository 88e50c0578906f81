"""Which heads carry the stance towards a claim, and are they the ones that the gates act on?

    python analyses/activation_patching.py --gates runs/controls/sycophancy-[0-4]-*.safetensors \\
        --hosts hosts/lora-sycophancy-medical-0

Exact patches of every head, both ways between false and true claims about the same facts, from a host's run into the base's,
and gates knocked out head by head. Writes FIGURES/patching.png, .svg and .json; `mechgate patch` does the same.
An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.causality.maps import CausalSettings, told
from mechgate.model.loading import load_model
from mechgate.questions.patching import NAME, patching
from mechgate.questions.place import Place


def main() -> None:
    """Config, one call, a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, required=True, help="gate files: seeds of one recipe")
    parser.add_argument("--hosts", nargs="*", type=Path, default=[], help="adapter folders")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--strength", type=float, default=-1.0, help="of the gates that are knocked out")
    parser.add_argument("--facts", type=int, default=16, help="test facts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/patching"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    place = Place(tables=given.folder, results=given.figures)
    numbers = patching(
        load_model(given.model),
        given.gates,
        hosts={path.name: load_model(given.model, adapter=path) for path in given.hosts},
        settings=CausalSettings(strength=given.strength, facts=given.facts, seed=given.seed),
        place=place,
    )
    print("\n".join(told(numbers)))
    print(f"{place.picture(NAME)} (.svg, .json)")


if __name__ == "__main__":
    main()
