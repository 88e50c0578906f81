"""What a question about representations is asked of: matched claims, and gates beside null gates and controls."""

from collections.abc import Mapping, Sequence

import numpy as np

from mechgate.data.pairs import Example, Pair
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import neutral_inputs
from mechgate.gates.nulls import null_gates
from mechgate.model.prompts import collate, encode_response
from mechgate.seeding import stream_seed

_NEUTRAL = 8  # texts that nulls with activations are matched on


def matched_claims(split: str, facts: int | None, *, least: int = 32) -> tuple[list[Pair], list[Pair]]:
    """A false and a true claim of each of `facts` facts (None: all of the split), spread over its domains; same order.

    Raises `InputError` for fewer than `least`.
    """
    false, true = (load_pairs(task, None, split, phrasings=1) for task in ("sycophancy", "genuine-agreement"))
    names = [pair.fact_id for pair in false]
    at = range(len(names)) if facts is None else np.linspace(0, len(names) - 1, facts).round().astype(int)
    kept = [names[i] for i in at]
    if len(set(kept)) < least:
        raise InputError(f"this needs at least {least} facts", got=len(set(kept)))
    of = [{pair.fact_id: pair for pair in side} for side in (false, true)]
    return [of[0][name] for name in kept], [of[1][name] for name in kept]


def null_arms(
    model: object, gates: GateSet, texts: Sequence[str | Example], *, draws: Mapping[str, int], purpose: str, seed: int
) -> dict[str, GateSet]:
    """Null gates of one gate set: `draws` of each family, and a dampener matched on some of the `texts`, by name."""
    rows = [encode_response(model, text) for text in texts[:_NEUTRAL]]
    device = gates.gate(gates.layers[0]).bias.device
    inputs = neutral_inputs(model, collate(rows, device))
    found = {
        f"{family} {k}": null_gates(gates, family=family, seed=stream_seed(seed, purpose, k), batch=batch)
        for family, n in draws.items()
        for batch in [None if family == "row-sign" else inputs]
        for k in range(n)
    }
    return found | {"dampener": null_gates(gates, family="dampener", seed=seed, batch=inputs)}
