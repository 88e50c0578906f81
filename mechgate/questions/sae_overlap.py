"""Do the gates move the sparse features that mark unsafe prompts?"""

from collections.abc import Mapping, Sequence
from typing import Any

from mechgate.gates.sources import Source
from mechgate.measure.features import Sae
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.report.features import draw_features, write_latents
from mechgate.representation.features import QUESTION, FeatureSettings, features

NAME = "sae_overlap"


def sae_overlap(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    saes: Mapping[str, Sae],
    *,
    hosts: Mapping[str, Any] | None = None,
    controls: Source | Sequence[Source] | Mapping[str, Source] = (),
    settings: FeatureSettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """`representation.features.features`, written and drawn at `place`, with a page of the shared latents (NAME.html)."""
    chosen, sets = settings or FeatureSettings(), gate_sets(gates, model)
    others = gate_sets(controls, model) if controls else {}
    numbers = features(
        model, sets, saes, hosts=hosts, controls=others, settings=chosen, folder=place.tables, say=place.say
    )
    hashes = hashes_of(model, sets, others) | {"saes": {name: one.hash for name, one in saes.items()}}
    place.answer(NAME, question=QUESTION, numbers=numbers, settings=chosen.model_dump(mode="json"), hashes=hashes)
    first = next(iter(numbers["saes"].values()))
    draw_features(
        numbers,
        place.picture(NAME),
        caption=f"{model_words(model)}, layer {first['layer']}; {first['living']} living latents in {first['clusters']} clusters; "
        f"s = {chosen.strength:+g}; gates read on {numbers['facts'] // 2} test facts, claims on as many others, "
        f"{chosen.position} token(s) of the prompt.\nLatents chosen by Benjamini-Hochberg (q = .05) on half of these facts and "
        f"confirmed on the other half. {len(sets)} gate set(s); permutation within deciles of firing rate and decoder norm "
        f"({chosen.permutations} draws).",
    )
    write_latents(numbers, place.picture(NAME).with_suffix(".html"))
    return numbers
