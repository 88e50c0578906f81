"""On which tokens do the gates work: the template, the claim, what follows it, or the response?

Gates that work on response tokens alone cannot be credited with reading the claim.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from mechgate.analysis.roles import role_effects, role_rows
from mechgate.data.pairs import Pair
from mechgate.data.tasks import load_pairs
from mechgate.gates.gateset import GateSet
from mechgate.gates.sources import Source
from mechgate.gates.storage import gates_hash
from mechgate.model.loading import fingerprint
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.referee.design import some_facts
from mechgate.report.roles import draw_roles
from mechgate.stages import Stages

NAME = "token-roles"
QUESTION = "On which tokens do the gates work?"
_TEXTS = ("set", "pair", "fact", "domain", "kind", "where", "seed")


class RoleSettings(BaseModel):
    """Settings of `token_roles`: on how many test facts (None: all), at which strengths. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    facts: int | None = Field(default=24, ge=4)
    strengths: tuple[float, ...] = (-1.0, 1.0)
    seed: int = 0


def token_roles(
    model: Any,
    gates: Source | Sequence[Source] | Mapping[str, Source],
    *,
    settings: RoleSettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """The change of the stance margin with gates on one role's tokens at a time: `effects` (means over gate sets, prompt by
    prompt, with intervals over facts) and `seeds` (the same for each set); written and drawn at `place`."""
    chosen, sets = settings or RoleSettings(), gate_sets(gates, model)
    tasks = {"wanted": "sycophancy", "unwanted": "genuine-agreement"}
    sides = some_facts(
        {side: load_pairs(task, None, "test", phrasings=1) for side, task in tasks.items()}, chosen.facts
    )
    claims = {"False claims": sides["wanted"], "True claims": sides["unwanted"]}
    stages = Stages(place.tables, place.say)
    tables = []
    for name, one in sets.items():
        made_from = [fingerprint(model), gates_hash(one), chosen.strengths, [p.id for p in sides["wanted"]]]
        make = partial(_rows, model, one, claims, chosen.strengths, name)
        tables.append(stages.table(f"roles, {name}", f"{name}.csv", made_from, make, texts=_TEXTS))
    rows = pd.concat(tables, ignore_index=True)
    keys = ["set", "pair", "fact", "domain", "kind", "strength", "where"]
    mean = rows.groupby(keys, sort=False, as_index=False).mean(numeric_only=True)
    numbers = {
        "effects": role_effects(mean, seed=chosen.seed).to_dict("records"),
        "seeds": {str(n): role_effects(p, seed=chosen.seed).to_dict("records") for n, p in rows.groupby("seed")},
    }
    place.answer(
        NAME, question=QUESTION, numbers=numbers, settings=chosen.model_dump(mode="json"), hashes=hashes_of(model, sets)
    )
    draw_roles(
        numbers["effects"],
        place.picture(NAME),
        caption=f"{model_words(model)}; {mean['fact'].nunique()} unseen facts in unseen wordings, {len(sets)} gate set(s) "
        "averaged prompt by prompt; means with 95% bootstrap intervals over facts.\nThe last group is the change on all "
        "tokens less the sum over single roles.",
    )
    return numbers


def told(numbers: dict[str, Any]) -> list[str]:
    """The effects, a line each."""
    return [
        f"{e['set']}, s = {e['strength']:+g}, {e['where']}: {e['value']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]"
        for e in numbers["effects"]
    ]


def _rows(model: Any, gates: GateSet, claims: dict[str, list[Pair]], strengths: Any, name: str) -> pd.DataFrame:
    return role_rows(model, gates, claims, strengths).assign(seed=name)
