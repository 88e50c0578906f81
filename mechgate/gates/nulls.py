"""Null gates: gates with nothing learned in them, matched to learned ones on what they do.

The families are in `mechgate.gates.null_families`, the matching in `mechgate.gates.matching`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mechgate.errors import InputError, check_choice
from mechgate.gates import null_families as draw
from mechgate.gates.gateset import GateSet
from mechgate.gates.matching import MATCHES, match_layers
from mechgate.gates.neutral import NeutralInputs, heads_a_group, neutral_inputs
from mechgate.model.prompts import Batch
from mechgate.seeding import rng

UNMATCHED = "unmatched (no activations given)"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A null family: `what` it keeps and breaks; `needs` "nothing", "groups" (the model's grouping of heads) or
    "activations"; `seeded` is False where it has one member, the same for every seed."""

    what: str
    build: Callable[..., GateSet]
    needs: str = "nothing"
    seeded: bool = True


FAMILIES: dict[str, Family] = {
    "row-sign": Family(what="signs of units flipped", build=lambda g, r, _: draw.row_sign(g, r)),
    "head-sign": Family(what="signs of heads flipped", build=lambda g, r, _: draw.head_sign(g, r)),
    "layer-sign": Family(what="signs of layers flipped", build=lambda g, r, _: draw.layer_sign(g, r)),
    "head-permutation": Family(what="heads permuted within layers", build=lambda g, r, _: draw.head_permutation(g, r)),
    "group-permutation": Family(
        what="heads permuted among those that share keys and values", build=draw.group_permutation, needs="groups"
    ),
    "dimension-permutation": Family(
        what="dimensions permuted within heads", build=lambda g, r, _: draw.dimension_permutation(g, r)
    ),
    "layer-permutation": Family(what="layers permuted", build=lambda g, r, _: draw.layer_permutation(g, r)),
    "haar": Family(
        what="the spectrum of W with random singular vectors",
        build=lambda g, r, _: draw.haar(g, r),
        needs="activations",
    ),
    "gaussian": Family(
        what="independent normal W and b", build=lambda g, r, _: draw.gaussian(g, r), needs="activations"
    ),
    "other-prompt": Family(
        what="values from another prompt, whatever the input", build=draw.other_prompt, needs="activations"
    ),
    "static-mean": Family(
        what="each unit's mean, whatever the input",
        build=lambda g, _, inputs: draw.static_mean(g, inputs),
        needs="activations",
        seeded=False,
    ),
    "dampener": Family(
        what="one scalar a layer",
        build=lambda g, _, inputs: draw.dampener(g, inputs),
        needs="activations",
        seeded=False,
    ),
    "head-dampener": Family(
        what="one scalar a head",
        build=lambda g, _, inputs: draw.head_dampener(g, inputs),
        needs="activations",
        seeded=False,
    ),
}


def null_gates(
    gates: GateSet,
    *,
    family: str,
    seed: int,
    model: Any = None,
    batch: Batch | Sequence[Batch] | NeutralInputs | None = None,
    match: str = "gate",
) -> GateSet:
    """One draw of a null family made from `gates`, which are left as they are.

    Families (`FAMILIES`): row-sign, head-sign, layer-sign (the inversion is the all-minus element of each);
    head-permutation, group-permutation (within heads that share keys and values), dimension-permutation,
    layer-permutation; haar, gaussian; other-prompt, static-mean; dampener, head-dampener.

    With `batch`, neutral tokens, each layer is rescaled to do as much as the learned one on them, within 1%: `match`
    "gate" on RMS(g - 1), "output" on the RMS of the change of the attention output (`mechgate.gates.matching`).
    `batch` is a Batch or several, run through `model` once without gates, or what `neutral_inputs` keeps of that,
    for many draws. Sign flips and permutations go without, unmatched (signs of units and permutations within a layer
    keep RMS(g - 1) anyway); group-permutation then needs `model`.

    A null keeps the `scale` of its gates: strength s of it stands for strength s of them, and a dampener of
    `gates.negated()` amplifies. `history` holds family, seed, the history of the gates and the report of the matching.

    Raises `InputError` for an unknown family or match, for a family that makes no sense for these gates or lacks its
    activations, and for a layer that cannot be matched, saying why.
    """
    check_choice("family", family, tuple(FAMILIES))
    check_choice("match", match, MATCHES)
    if type(gates) is not GateSet:
        raise InputError("null gates are drawn from gates with parameters of their own", got=repr(gates))
    kind = FAMILIES[family]
    inputs = _inputs(gates, kind, family, match, model, batch)
    extra: Any = inputs
    if kind.needs == "groups":
        extra = _group(family, model, inputs)
    null = kind.build(gates, rng(seed, "null", family), extra)
    null.history = {"null": f"{family} null, seed {seed}", "family": family, "seed": seed, "of": gates.history}
    null.history["matching"] = UNMATCHED if inputs is None else match_layers(null, gates, inputs, match)
    return null.requires_grad_(False)


def _inputs(gates: GateSet, kind: Family, family: str, match: str, model: Any, batch: Any) -> NeutralInputs | None:
    if model is not None:
        gates.check_fits(model)
    if isinstance(batch, NeutralInputs):
        batch.check_fits(gates.shape, gates.layers)
        return batch
    if batch is not None and model is not None:
        return neutral_inputs(model, batch, gates.layers)
    if batch is not None or kind.needs == "activations" or match != "gate":
        raise InputError(
            f"the {family} family, matched on the {match}, needs activations on neutral tokens",
            got="a batch without the model" if batch is not None else "no batch",
            do="pass model=... and batch=..., or batch=neutral_inputs(model, batch)",
        )
    return None


def _group(family: str, model: Any, inputs: NeutralInputs | None) -> int:
    if inputs is not None:
        return inputs.group
    if model is None:
        raise InputError(
            f"the {family} family needs to know which heads share keys and values",
            got="neither model nor neutral inputs",
            do="pass model=...",
        )
    return heads_a_group(model)
