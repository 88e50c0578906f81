"""Can another objective or form make the gates select? Variants of the learned gates on one plane."""

from collections.abc import Mapping, Sequence
from typing import Any

from mechgate.errors import InputError
from mechgate.gates.sources import Source
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.referee import SelectivitySettings, selectivity
from mechgate.report.objectives import draw_objectives

NAME = "objectives"
QUESTION = "Can another objective or form make the gates spare true claims?"
LEAN: dict[str, Any] = dict(
    strengths=(-1.0, 1.0), facts=60, perplexity_texts=48, families=(), exact_families=(), dosed_families=()
)
"""Of the referee's settings: the verdict's axis and damage alone; nulls and controls belong to `selectivity`."""


def objectives(
    model: Any,
    variants: Mapping[str, Sequence[Source]],
    *,
    what: Mapping[str, str],
    settings: SelectivitySettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """Each variant's axis, dose and damage (gate seeds of one variant each), with `what` it is in words; written and drawn
    at `place`. Raises `InputError` for no variants and what `selectivity` raises."""
    chosen = settings or SelectivitySettings(**LEAN)
    if not variants:
        raise InputError("there are no variants to compare", got="none")
    found, hashes = {}, []
    for name, sources in variants.items():
        sets = gate_sets(sources, model)
        hashes.append(sets)
        report = selectivity(model, sets, settings=chosen, folder=place.tables, say=place.say)
        base = report.numbers["contexts"]["base"]
        found[name] = {
            "what": what[name],
            "verdict": base["verdict"]["outcome"],
            "kl": sum(base["dose"]["kl"].values()) / len(sets),
            **{key: base[key] for key in ("axes", "sets", "spared", "described", "interaction")},
        }
        place.say(told({name: found[name]})[0])
    place.answer(
        NAME,
        question=QUESTION,
        numbers=found,
        settings=chosen.model_dump(mode="json"),
        hashes=hashes_of(model, *hashes),
    )
    axes = next(iter(found.values()))["axes"]
    facts = ", ".join(f"{label}: {axes[label][0]['facts']} facts" for label in axes)
    seeds = sorted({len(one) for one in variants.values()})
    draw_objectives(
        found,
        place.picture(NAME),
        caption=f"{model_words(model)}; {' or '.join(map(str, seeds))} seed(s) a variant; s = {chosen.strength:+g}; {facts}. Means "
        "with 95% hierarchical bootstrap intervals over seeds and facts.\nSmall marks: each seed (all facts). On A = E true "
        "claims move as much.",
    )
    return found


def told(numbers: dict[str, Any]) -> list[str]:
    """A line a variant."""
    lines = []
    for name, entry in numbers.items():
        axis = entry["axes"]["all"][0]
        spans = [axis["effect"], axis["side_effect"], axis["sigma"]]
        cells = ["-" if e is None else f"{e['value']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]" for e in spans]
        lines.append(f"{name}: E {cells[0]}, A {cells[1]}, sigma {cells[2]}, KL {entry['kl']:.3f}: {entry['verdict']}")
    return lines
