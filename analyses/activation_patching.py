"""Which heads carry the stance towards a claim, and are they the ones that the gates act on?

    python analyses/activation_patching.py --gates runs/controls/sycophancy-[0-4]-*.safetensors \\
        --hosts hosts/lora-sycophancy-medical-0

Exact patches of every head, both ways between false and true claims about the same facts, from a host's run into the base's,
and gates knocked out head by head. Writes FIGURES/activation-patching.png, .svg and .json; `mechgate patch` does the same.
An interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.causality.maps import QUESTION, CausalSettings, causal_maps, told
from mechgate.errors import InputError
from mechgate.gates.storage import load_gates
from mechgate.model.loading import load_model
from mechgate.provenance import file_sha256
from mechgate.report.causal import draw_causal
from mechgate.report.results import write_result


def main() -> None:
    """Config, one call, a table, a figure."""
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
    if len({path.stem for path in given.gates}) != len(given.gates):
        raise InputError("gate files need different names", got=[path.name for path in given.gates])
    settings = CausalSettings(strength=given.strength, facts=given.facts, seed=given.seed)
    model = load_model(given.model)
    numbers = causal_maps(
        model,
        {path.stem: load_gates(path, model) for path in given.gates},
        hosts={path.name: load_model(given.model, adapter=path) for path in given.hosts},
        settings=settings,
        folder=given.folder,
    )
    print("\n".join(told(numbers)))
    target = given.figures / "activation-patching.png"
    write_result(
        target.with_suffix(".json"),
        question=QUESTION,
        numbers=numbers,
        settings={**settings.model_dump(mode="json"), "model": given.model},
        hashes={"gates": {path.name: file_sha256(path) for path in given.gates}},
    )
    screen = numbers["patches"]["true into false"]["screens"]["first order"]
    draw_causal(
        numbers,
        target,
        caption=f"{given.model}; means over {numbers['facts']} test facts whose false and true claims have equally many tokens; a: z of one "
        f"head of the run on the true claim put into the run on the false one (attribution patching agrees\nwith it by Pearson "
        f"{screen['pearson']:.2f}); b: in the run with gates at s = {settings.strength:+g}; c: tokens of the user's turn; "
        f"{len(given.gates)} gate set(s). Dots: max-T p ≤ .05 over the map, facts as clusters. d: p within layers.",
    )
    print(f"{target} (.svg, .json)")


if __name__ == "__main__":
    main()
