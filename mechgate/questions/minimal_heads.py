"""How few heads' gates keep the gates' effect, is that fewer than random heads, and do they act directly?"""

from collections.abc import Mapping, Sequence
from typing import Any

from mechgate.causality.heads import QUESTION, HeadSettings, head_sets
from mechgate.gates.sources import Source
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.report.head_sets import draw_head_sets

NAME = "minimal_heads"


def minimal_heads(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    *,
    settings: HeadSettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """`causality.heads.head_sets`, written at `place` and drawn there, a picture a gate set (NAME-GATES)."""
    chosen, sets = settings or HeadSettings(), gate_sets(gates, model)
    numbers = head_sets(model, sets, settings=chosen, folder=place.tables, say=place.say)
    place.answer(
        NAME, question=QUESTION, numbers=numbers, settings=chosen.model_dump(mode="json"), hashes=hashes_of(model, sets)
    )
    for name, found in numbers["gates"].items():
        draw_head_sets(
            found,
            place.picture(f"{NAME}-{name}"),
            share=chosen.share,
            caption=f"{model_words(model)}, {name}; {chosen.facts} test facts (false claims), heads ordered on {chosen.dev_facts} dev "
            f"facts, seed {chosen.seed}; bars: 95% bootstrap over facts; numbers: the smallest sets' sizes.\n"
            f"a: random sets for the order by |g − 1|: bands (screened: {chosen.draws} sums of single heads' attribution), and "
            f"{chosen.exact} sets of each kind measured for each smallest set.\nc: one layer's gates alone in the base model; direct: "
            "everything downstream frozen at the base's values.",
        )
    return numbers
