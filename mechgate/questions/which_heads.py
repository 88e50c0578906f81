"""Which heads do gates target? The atlas: maps of layers x heads over gate seeds, beside what other gates give."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from mechgate.analysis.atlas import activity_rows, atlas_numbers, by_head, head_rows
from mechgate.analysis.attribution import NODES, integrated_attribution
from mechgate.data.pairs import Pair
from mechgate.data.tasks import load_pairs
from mechgate.gates.nulls import null_gates
from mechgate.gates.sources import Source
from mechgate.gates.storage import gates_hash
from mechgate.model.loading import fingerprint
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.report.atlas import draw_atlas
from mechgate.stages import Stages

NAME = "which_heads"
QUESTION = "Which heads do the gates act in, where does a false claim change that, and which heads move the stance?"
_TEXTS = ("fact", "domain")


class AtlasSettings(BaseModel):
    """Settings of `which_heads`; unknown names are errors.

    Gates are looked at while they stand at `strength`, on `facts` facts of `split` (None: all), evenly over domains, in
    `phrasings` wordings. Attribution is integrated over `nodes` points along strength. `null_draws` gates of `null_family`
    are drawn from each gate set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: float = 1.0
    split: str = "test"
    facts: int | None = Field(default=None, ge=1)
    phrasings: int = Field(default=2, ge=1)
    nodes: int = Field(default=NODES, ge=1)
    null_family: str = "row-sign"
    null_draws: int = Field(default=1, ge=0)
    seed: int = 0


def which_heads(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    others: Mapping[str, Sequence[Source]] | None = None,
    *,
    settings: AtlasSettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """The atlas (`analysis.atlas.atlas_numbers`) of gate sets, seeds of one recipe; written and drawn at `place`.

    `others`: by task, gates that learned something else; null gates of the settings' family stand beside them. A
    table a gate set is kept, so that an interrupted run goes on.
    """
    chosen = settings or AtlasSettings()
    sets, rivals = gate_sets(gates, model), {task: gate_sets(group, model) for task, group in (others or {}).items()}
    false, true, kept = _claims(chosen)
    stages = Stages(place.tables, place.say)
    asked = [fingerprint(model), chosen.strength, kept, chosen.split, chosen.phrasings, chosen.nodes]

    def contributions(make: Any) -> pd.DataFrame:
        one = make()
        units = integrated_attribution(model, one, false, strength=chosen.strength, nodes=chosen.nodes)
        return head_rows(by_head(units, one), one, false)

    def table(title: str, file: str, key: Any, make: Any) -> pd.DataFrame:
        return stages.table(title, f"{file}.csv", [*asked, key], make, texts=_TEXTS)

    activity, attribution, beside = [], [], []
    for name, one in sets.items():
        key = gates_hash(one)
        rows = table(f"{name}: attribution", f"attribution-{name}", key, partial(contributions, lambda one=one: one))
        attribution.append(rows.assign(seed=name))
        looked = partial(activity_rows, model, one, false, true, strength=chosen.strength)
        activity.append(table(f"{name}: activity", f"activity-{name}", key, looked).assign(seed=name))
        for draw in range(chosen.null_draws):
            kind = f"{chosen.null_family}-{draw}"
            make = partial(null_gates, one, family=chosen.null_family, seed=draw, model=model)
            rows = table(f"{name}: {kind}", f"{kind}-{name}", [key, draw], partial(contributions, make))
            beside.append(rows.assign(seed=f"{name}, {draw}", family=chosen.null_family))
    for task, group in rivals.items():
        for name, one in group.items():
            make = partial(contributions, lambda one=one: one)
            rows = table(f"{name}: attribution", f"attribution-{name}", gates_hash(one), make)
            beside.append(rows.assign(seed=name, family=task))
    whole = pd.concat(beside, ignore_index=True) if beside else None
    numbers = atlas_numbers(pd.concat(activity), pd.concat(attribution), others=whole, seed=chosen.seed)
    place.answer(
        NAME,
        question=QUESTION,
        numbers=numbers,
        settings=chosen.model_dump(mode="json"),
        hashes=hashes_of(model, sets, *rivals.values()),
    )
    caption = (
        f"{model_words(model)}; means over {numbers['n']} facts and {len(sets)} gate seed(s) at s = {chosen.strength:+g}. "
        "Filled dots (positive) and rings (negative): max-T p ≤ .05\nover the map, clusters are facts. a, b: tokens of "
        "the user's turn; c: integrated from s = 0 on false claims, units summed to heads."
    )
    draw_atlas(numbers, place.picture(NAME), caption=caption)
    return numbers


def _claims(settings: AtlasSettings) -> tuple[list[Pair], list[Pair], list[str]]:
    """False and true claims about the facts that are kept, and those."""
    claims = [
        load_pairs(task, None, settings.split, phrasings=settings.phrasings)
        for task in ("sycophancy", "genuine-agreement")
    ]
    facts = sorted({pair.fact_id for pair in claims[0]})
    n = settings.facts
    kept = facts if n is None else facts[:: max(1, len(facts) // n)][:n]
    chosen = set(kept)
    false, true = ([pair for pair in pairs if pair.fact_id in chosen] for pairs in claims)
    return false, true, kept
