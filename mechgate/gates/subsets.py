"""Gates of some heads only: the same gates with g = 1 exactly in all other heads."""

import copy
from collections.abc import Collection, Iterable

import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet

Head = tuple[int, int]
"""(layer, head)."""


def gated_heads(gates: GateSet) -> list[Head]:
    """All heads that have gates, in order. Raises `InputError` for gates without heads or of another kind than `GateSet`."""
    if type(gates) is not GateSet or gates.granularity == "layer":
        raise InputError(
            "head by head, only gates with parameters of their own for each head can be left out", got=repr(gates)
        )
    return [(layer, head) for layer in gates.layers for head in range(gates.shape.n_heads)]


def keep_heads(gates: GateSet, heads: Iterable[Head]) -> GateSet:
    """A copy of `gates` in which all heads but `heads` ((layer, head) each) have g = 1 exactly.

    With all heads it is `gates` bit for bit, with none the base model. `history` says which heads were kept. Raises
    `InputError` for heads that have no gates, and as `gated_heads`.
    """
    kept, there = {(int(layer), int(head)) for layer, head in heads}, gated_heads(gates)
    if wrong := sorted(kept - set(there)):
        raise InputError("heads without gates cannot be kept", got=wrong[:3], allowed=f"{there[0]} to {there[-1]}")
    found = copy.deepcopy(gates)
    with torch.no_grad():
        for layer in found.layers:
            others = ~head_units(gates, [head for k, head in kept if k == layer])
            for rows in found.gate(layer).rows():
                rows[others] = 0.0
    found.history = {"kept heads": [list(head) for head in sorted(kept)], "of": gates.history}
    return found.requires_grad_(False)


def head_units(gates: GateSet, heads: Collection[int]) -> torch.Tensor:
    """Which units of a layer's gate belong to `heads` (numbers within the layer): bool [units], on the gates' device."""
    width = 1 if gates.granularity == "head" else gates.shape.d_head
    chosen = torch.tensor([head in heads for head in range(gates.shape.n_heads)])
    return chosen.repeat_interleave(width).to(gates.gate(gates.layers[0]).bias.device)
