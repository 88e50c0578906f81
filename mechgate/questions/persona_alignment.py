"""Do gates write along persona vectors, read them, or detect what they stand for?"""

from collections.abc import Mapping, Sequence
from typing import Any

from mechgate.gates.sources import Source
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.report.personas import caption_of, draw_personas
from mechgate.representation.persona_tables import PersonaSettings
from mechgate.representation.personas import QUESTION, personas

NAME = "persona_alignment"


def persona_alignment(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    *,
    hosts: Mapping[str, Any] | None = None,
    controls: Source | Sequence[Source] | Mapping[str, Source] = (),
    settings: PersonaSettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """`representation.personas.personas`, written and drawn at `place`; the vectors are in its tables."""
    chosen, sets = settings or PersonaSettings(), gate_sets(gates, model)
    others = gate_sets(controls, model) if controls else {}
    numbers = personas(
        model, sets, settings=chosen, folder=place.tables, hosts=hosts or {}, controls=others, say=place.say
    )
    place.answer(
        NAME,
        question=QUESTION,
        numbers=numbers,
        settings=chosen.model_dump(mode="json"),
        hashes=hashes_of(model, sets, others),
    )
    draw_personas(numbers, place.picture(NAME), caption=caption_of(model_words(model), numbers))
    return numbers
