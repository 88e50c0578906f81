"""Do the gates write along persona vectors, or read them, more than null gates and null directions do?

    python analyses/persona_alignment.py --gates runs/controls/sycophancy-[0-2]-*.safetensors \\
        --controls runs/controls/sign-off-0-*.safetensors --hosts hosts/sycophantic

Extracts vectors of six traits (kept in FOLDER/vectors in the public format), checks each by steering on held-out
questions, and compares them with what gates write, read and detect. Writes FIGURES/persona_alignment.png, .svg and
.json; `mechgate personas` does the same. An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.model.loading import load_model
from mechgate.questions.persona_alignment import NAME, persona_alignment
from mechgate.questions.place import Place
from mechgate.report.personas import caption_of, draw_personas
from mechgate.report.results import read_result
from mechgate.representation.persona_tables import PersonaSettings
from mechgate.representation.personas import told


def main() -> None:
    """Config, one call, a table, a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", type=Path, default=[], help="gate files: seeds of one recipe")
    parser.add_argument("--controls", nargs="*", type=Path, default=[], help="control gate files")
    parser.add_argument("--hosts", nargs="*", type=Path, default=[], help="adapter folders: hosts that misbehave")
    parser.add_argument("--model", default="smollm2-135m")
    usual = PersonaSettings()
    parser.add_argument("--traits", nargs="+", default=list(usual.traits))
    for name in ("instructions", "questions", "max_new_tokens", "steer_layer", "steer_questions", "facts", "nulls"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(usual, name))
    parser.add_argument("--strength", type=float, default=usual.strength)
    parser.add_argument(
        "--position", default=usual.position, help="last, mean, claim or response: where gates are read"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/personas"))
    parser.add_argument("--figures", type=Path, default=Path("figures"))
    parser.add_argument("--redraw", action="store_true", help="draw the kept numbers again, measure nothing")
    given = parser.parse_args()
    place = Place(tables=given.folder, results=given.figures)
    if given.redraw:
        numbers = read_result(given.figures / f"{NAME}.json")["numbers"]
        draw_personas(numbers, place.picture(NAME), caption=caption_of(f"{given.model}, fp32", numbers))
        return
    if not given.gates:
        parser.error("--gates is needed, or --redraw")
    settings = PersonaSettings(**{name: getattr(given, name) for name in PersonaSettings.model_fields if name in given})
    numbers = persona_alignment(
        load_model(given.model),
        given.gates,
        hosts={path.name: load_model(given.model, adapter=path) for path in given.hosts},
        controls=given.controls,
        settings=settings,
        place=place,
    )
    print("\n".join(told(numbers)))
    print(f"{place.picture(NAME)} (.svg, .json)")


if __name__ == "__main__":
    main()
