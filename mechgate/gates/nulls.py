"""Null gates: gates with nothing learned in them, matched to learned ones on what they do."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mechgate.errors import check_choice
from mechgate.gates.gateset import GateSet
from mechgate.seeding import rng


def _row_sign(gates: GateSet, generator: np.random.Generator) -> None:
    """Flip the sign of (W, b) row by row: |g - 1| stays exactly as it was, for every input."""
    for layer in gates.layers:
        gate = gates.gate(layer)
        signs = torch.from_numpy(generator.choice([-1.0, 1.0], size=gate.bias.numel())).to(gate.bias)
        gate.bias.mul_(signs)
        for rows in (gate.weight, gate.up):
            if rows is not None:
                rows.mul_(signs[:, None])


FAMILIES: dict[str, Callable[[GateSet, np.random.Generator], None]] = {"row-sign": _row_sign}


def null_gates(gates: GateSet, *, family: str, seed: int, model: Any = None, batch: Any = None) -> GateSet:
    """One draw of a null family made from `gates`, which are left as they are.

    `row-sign` multiplies each row of (W, b) by an independent random sign, so every unit is gated exactly as
    strongly as before at equal inputs, in a random direction; the paper's inversion is its all-minus element.
    `model` and `batch` are for families that need activations. Raises `InputError` for an unknown family.
    """
    check_choice("family", family, tuple(FAMILIES))
    null = copy.deepcopy(gates)
    with torch.no_grad():
        FAMILIES[family](null, rng(seed, "null", family))
    null.history = {"null": f"{family} null, seed {seed}", "of": gates.history}
    return null.requires_grad_(False)
