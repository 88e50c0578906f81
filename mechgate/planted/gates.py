"""Planted gates: selective on chosen heads along one chosen direction, beside decoys that are as far from 1 and select nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.model.sites import shape_of
from mechgate.planted.world import Head, check_heads


def planted_gates(
    model: Any,
    heads: Sequence[Head],
    directions: Mapping[int, torch.Tensor],
    *,
    size: float = 2.0,
    decoys: Sequence[Head] = (),
    decoy_size: float | None = None,
) -> GateSet:
    """Rank-1 gates: on `heads`, g = 2 sigmoid(size * w . x) with w = `directions[layer]` [d_model]; on `decoys`, the
    constant 2 sigmoid(`decoy_size`) (default: `size` / 2); g = 1 exactly on all others.

    With w from `mechgate.train.detectors` (1 in the mean over one kind of prompt, 0 over another) the heads are selective by
    construction and the decoys are not, whatever |g - 1| says. Raises `InputError` for heads without a direction, for
    decoys among the heads and for heads that are not there.
    """
    shape = shape_of(model)
    chosen = check_heads([*heads, *decoys], shape.n_layers, shape.n_heads)
    if lost := sorted({layer for layer, _ in heads} - set(directions)):
        raise InputError("heads of layers without a direction", got=lost, allowed=sorted(directions))
    layers = sorted({layer for layer, _ in chosen})
    gates = GateSet.identity(model, rank=1, layers=layers)
    constant = size / 2 if decoy_size is None else decoy_size
    with torch.no_grad():
        for layer in layers:
            gate = gates.gate(layer)
            assert gate.up is not None
            assert gate.down is not None
            gate.down.copy_(directions[layer][None] if layer in directions else torch.zeros_like(gate.down))
            for k, head in chosen:
                if k != layer:
                    continue
                own = slice(head * shape.d_head, (head + 1) * shape.d_head)
                if (k, head) in set(heads):
                    gate.up[own] = size
                else:
                    gate.bias[own] = constant
    gates.requires_grad_(False)
    gates.history = {"planted": [list(head) for head in heads], "decoys": [list(head) for head in decoys]}
    return gates
