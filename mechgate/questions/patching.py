"""Which heads carry the stance towards a claim, and are they the ones that the gates act on?"""

from collections.abc import Mapping, Sequence
from typing import Any

from mechgate.causality.maps import QUESTION, CausalSettings, causal_maps
from mechgate.gates.sources import Source
from mechgate.model.loading import fingerprint
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.report.causal import draw_causal

NAME = "patching"


def patching(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    *,
    hosts: Mapping[str, Any] | None = None,
    settings: CausalSettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """`causality.maps.causal_maps`, written and drawn at `place`."""
    chosen, sets = settings or CausalSettings(), gate_sets(gates, model)
    numbers = causal_maps(model, sets, hosts=hosts, settings=chosen, folder=place.tables, say=place.say)
    hashes = hashes_of(model, sets) | {"hosts": {name: fingerprint(host) for name, host in (hosts or {}).items()}}
    place.answer(NAME, question=QUESTION, numbers=numbers, settings=chosen.model_dump(mode="json"), hashes=hashes)
    screen = numbers["patches"]["true into false"]["screens"].get("first order")
    agrees = f" (attribution patching agrees\nwith it by Pearson {screen['pearson']:.2f})" if screen else ""
    draw_causal(
        numbers,
        place.picture(NAME),
        caption=f"{model_words(model)}; means over {numbers['facts']} test facts whose false and true claims have equally many "
        f"tokens; a: z of one head of the run on the true claim put into the run on the false one{agrees}; b: in the run with "
        f"gates at s = {chosen.strength:+g}; c: tokens of the user's turn; {len(sets)} gate set(s). Dots: max-T p ≤ .05 over the "
        "map, facts as clusters. d: p within layers.",
    )
    return numbers
