"""Do the gates write along persona vectors, or read them, more than null gates and null directions do?

    python analyses/persona_alignment.py --gates runs/controls/sycophancy-[0-2]-*.safetensors \\
        --controls runs/controls/sign-off-0-*.safetensors --hosts hosts/sycophantic

Extracts vectors of six traits (kept in FOLDER/vectors in the public format), checks each by steering on held-out
questions, and compares them with what gates write, read and detect. Writes FIGURES/persona-alignment.png, .svg and
.json; `mechgate personas` does the same. An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.errors import InputError
from mechgate.gates.storage import load_gates
from mechgate.model.loading import load_model
from mechgate.provenance import file_sha256
from mechgate.report.personas import caption_of, draw_personas
from mechgate.report.results import read_result, write_result
from mechgate.representation.persona_tables import PersonaSettings
from mechgate.representation.personas import QUESTION, personas, told


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
    target = given.figures / "persona-alignment.png"
    if given.redraw:
        kept = read_result(target.with_suffix(".json"))
        draw_personas(kept["numbers"], target, caption=caption_of(kept["settings"]["model"], kept["numbers"]))
        return
    files = [*given.gates, *given.controls]
    if not given.gates or len({path.stem for path in files}) != len(files):
        raise InputError("gate files are needed, with different names", got=[path.name for path in files])
    settings = PersonaSettings(**{name: getattr(given, name) for name in PersonaSettings.model_fields if name in given})
    model = load_model(given.model)
    numbers = personas(
        model,
        {path.stem: load_gates(path, model) for path in given.gates},
        settings=settings,
        folder=given.folder,
        hosts={path.name: load_model(given.model, adapter=path) for path in given.hosts},
        controls={path.stem: load_gates(path, model) for path in given.controls},
    )
    print("\n".join(told(numbers)))
    write_result(
        target.with_suffix(".json"),
        question=QUESTION,
        numbers=numbers,
        settings={**settings.model_dump(mode="json"), "model": given.model},
        hashes={"gates": {path.name: file_sha256(path) for path in files}},
    )
    draw_personas(numbers, target, caption=caption_of(given.model, numbers))
    print(f"{target} (.svg, .json)")


if __name__ == "__main__":
    main()
