"""Do gates trained on one domain act in the others? The matrix of training domain x test domain."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from mechgate.analysis.transfer import margin_rows, transfer_numbers
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.sources import Source
from mechgate.gates.storage import gates_hash
from mechgate.model.loading import fingerprint
from mechgate.questions.place import Place, gate_sets, hashes_of, model_words
from mechgate.report.transfer import draw_transfer
from mechgate.stages import Stages

NAME = "transfer"
QUESTION = "Do gates trained on one domain change the stance in the others as they do in their own?"
_TEXTS = ("kind", "domain", "fact", "id")


class TransferSettings(BaseModel):
    """Settings of `transfer`: strengths, the split and wordings that are measured. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strengths: tuple[float, ...] = (-1.0, 1.0)
    split: str = "test"
    phrasings: int = Field(default=1, ge=1)
    seed: int = 0


def transfer(
    model: Any,
    gates: Mapping[str, Sequence[Source]],
    *,
    settings: TransferSettings | None = None,
    place: Place,
) -> dict[str, Any]:
    """`analysis.transfer.transfer_numbers` of gates by the domain that they were trained on, each in one or more seeds;
    written and drawn at `place`, where a table a gate set is kept. Raises `InputError` for fewer than two domains."""
    chosen = settings or TransferSettings()
    if len(gates) < 2:
        raise InputError("a transfer matrix needs gates of two domains", got=sorted(gates))
    sets = {domain: gate_sets(sources, model) for domain, sources in gates.items()}
    pairs = [
        pair
        for task in ("sycophancy", "genuine-agreement")
        for domain in gates
        for pair in load_pairs(task, domain, chosen.split, phrasings=chosen.phrasings)
    ]
    stages = Stages(place.tables, place.say)
    asked = [fingerprint(model), chosen.split, chosen.phrasings, [pair.id for pair in pairs]]
    base = stages.table("without gates", "base.csv", asked, partial(margin_rows, model, pairs), texts=_TEXTS)
    tables = []
    for domain, group in sets.items():
        for seed, (name, one) in enumerate(group.items()):
            for s in chosen.strengths:
                title, file = f"{domain}: {name}, s = {s:+g}", f"{domain}-{name}-at{s:+g}.csv"
                make = partial(margin_rows, model, pairs, one, s)
                table = stages.table(title, file, [*asked, gates_hash(one), s], make, texts=_TEXTS)
                tables.append(table.assign(trained=domain, seed=seed))
    numbers = transfer_numbers(base, pd.concat(tables, ignore_index=True), seed=chosen.seed)
    place.answer(
        NAME,
        question=QUESTION,
        numbers=numbers,
        settings=chosen.model_dump(mode="json"),
        hashes=hashes_of(model, *sets.values()),
    )
    n, seeds = min(cell["change"]["n"] for cell in numbers["cells"]), min(map(len, sets.values()))
    caption = (
        f"{model_words(model)}; change from no gates at s = −1 (inverted) or +1 (trained); mean over at least {n} test facts a "
        f"domain and\n{seeds} gate seed(s) a domain of training, ± half the 95% interval. Frames: a gate's own domain."
    )
    draw_transfer(numbers, place.picture(NAME), caption=caption)
    return numbers


def told(numbers: dict[str, Any]) -> list[str]:
    """Own domain against the others, a line a kind of claim and strength."""
    lines = []
    for found in numbers["contrasts"]:
        if found["tested"] == "all":
            own, others, less = (found[name]["value"] for name in ("own", "others", "own minus others"))
            ends = "[{low:+.2f}, {high:+.2f}]".format(**found["own minus others"])
            where = f"{found['kind']}, s = {found['strength']:+g}"
            lines.append(f"{where}: own {own:+.2f}, others {others:+.2f}, difference {less:+.2f} {ends} nats")
    return lines
