"""How few heads' gates keep the gates' effect, is that fewer than random heads, and do they act directly?

    python analyses/minimal_heads.py --gates runs/controls/sycophancy-0-*.safetensors

Faithfulness curves (only the first k heads' gates on, and these off) on test facts with orders made on dev facts, the
smallest set that keeps 90% beside random sets of the same layers, direct and indirect effects by layer. Writes
FIGURES/minimal-heads.json and, for each gate file, minimal-heads-NAME.png and .svg; `mechgate heads` does the same. An
interrupted run goes on.
"""

import argparse
from pathlib import Path

from mechgate.causality.head_numbers import told
from mechgate.causality.heads import QUESTION, HeadSettings, head_sets
from mechgate.data.tasks import dataset_hashes
from mechgate.errors import InputError
from mechgate.gates.storage import load_gates
from mechgate.model.loading import load_model
from mechgate.provenance import file_sha256
from mechgate.report.head_sets import draw_head_sets
from mechgate.report.results import write_result


def main() -> None:
    """Config, one call, numbers, figures."""
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
    if len({path.stem for path in given.gates}) != len(given.gates):
        raise InputError("gate files need different names", got=[path.name for path in given.gates])
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
    model = load_model(given.model)
    gates = {path.stem: load_gates(path, model) for path in given.gates}
    numbers = head_sets(model, gates, settings=settings, folder=given.folder)
    print("\n".join(told(numbers)))
    written = write_result(
        given.figures / "minimal-heads.json",
        question=QUESTION,
        numbers=numbers,
        settings={**settings.model_dump(mode="json"), "model": given.model},
        hashes={"data": dataset_hashes(), "gates": {path.name: file_sha256(path) for path in given.gates}},
    )
    for name, found in numbers["gates"].items():
        draw_head_sets(
            found,
            given.figures / f"minimal-heads-{name}.png",
            share=settings.share,
            caption=f"{given.model}, {name}; {settings.facts} test facts (false claims), heads ordered on {settings.dev_facts} dev "
            f"facts, seed {settings.seed}; bars: 95% bootstrap over facts; numbers: the smallest sets' sizes.\n"
            f"a: random sets for the order by |g − 1|: bands (screened: {settings.draws} sums of single heads' attribution), and "
            f"{settings.exact} sets of each kind measured for each smallest set.\nc: one layer's gates alone in the base model; direct: "
            "everything downstream frozen at the base's values.",
        )
        print(f"{given.figures}/minimal-heads-{name}.png (.svg)")
    print(written)


if __name__ == "__main__":
    main()
