"""Do gates change how unsafe prompts are represented, and leave safe ones? Is the knowledge kept while behaviour goes?"""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from mechgate.gates.sources import Source
from mechgate.questions.place import Place, model_words
from mechgate.report.similarity import draw_similarity
from mechgate.representation.settings import SimilaritySettings
from mechgate.representation.similarity import similarity

NAME = "similarity"


def compared(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    *,
    controls: Mapping[str, Sequence[Source]] | None = None,
    settings: SimilaritySettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """`representation.similarity.similarity`, written and drawn at `place`: layer curves and RDMs of every contrast."""
    numbers = similarity(model, gates, controls, settings=settings, folder=place.tables, say=place.say)
    target = (place.results or place.tables) / f"{NAME}.json"
    if target.resolve() != (place.tables / f"{NAME}.json").resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place.tables / f"{NAME}.json", target)
    draw_similarity(numbers, place.picture(NAME).parent, told=f"{model_words(model)}; ")
    return numbers
