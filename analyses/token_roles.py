"""On which tokens do the gates work: the template, the claim, what follows it, or the response?

    python analyses/token_roles.py --gates runs/controls/sycophancy-*.safetensors

Gates that work on response tokens alone cannot be credited with reading the claim. Writes FIGURES/token-roles.png, .svg and
.json; an interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.model.loading import load_model
from mechgate.questions.place import Place
from mechgate.questions.token_roles import NAME, RoleSettings, token_roles, told


def main() -> None:
    """Config, one call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, required=True, help="gate files: seeds of one recipe")
    parser.add_argument("--facts", type=int, default=24, help="test facts")
    parser.add_argument("--strengths", nargs="+", type=float, default=[-1.0, 1.0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--folder", type=Path, default=Path("runs/token-roles"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    given = parser.parse_args()
    settings = RoleSettings(facts=given.facts, strengths=tuple(given.strengths))
    place = Place(tables=given.folder, results=given.figures)
    print("\n".join(told(token_roles(load_model(given.model), given.gates, settings=settings, place=place))))
    print(f"{place.picture(NAME)} (.svg, .json)")


if __name__ == "__main__":
    main()
