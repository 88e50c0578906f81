"""One layer's gate, as a pure function of the attention block's normalised input.

    g(x) = 2 * sigmoid(W x + b) = 1 + tanh((W x + b) / 2)        g_s = 1 + s * (g - 1)

W = b = 0 gives g = 1 exactly; negating (W, b) gives 2 - g, the inversion of Alignment Gating (arXiv 2606.09068).
Working with g - 1 rather than g keeps small gates exact in low precision.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mechgate.errors import InputError
from mechgate.model.sites import Shape

GRANULARITIES = ("element", "head", "layer")
INPUTS = ("linear", "static")


def n_units(shape: Shape, granularity: str) -> int:
    """How many numbers a layer's gate has for each token: one a z element, a head, or one in all."""
    return {"element": shape.d_z, "head": shape.n_heads, "layer": 1}[granularity]


class Gate(nn.Module):
    """The gate of one layer. Parameters are fp32; products run in the input's dtype, tanh in fp32.

    `bias` [units] is always there; `weight` [units, d_model] with a full linear input; `up` [units, rank] and
    `down` [rank, d_model] with a low-rank one (W = up @ down, up = 0 at the start); none of them if static.
    """

    weight: nn.Parameter | None
    up: nn.Parameter | None
    down: nn.Parameter | None

    def __init__(self, units: int, d_model: int, *, input: str, rank: int | None, generator: torch.Generator):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(units))
        full, low = input == "linear" and rank is None, input == "linear" and rank is not None
        self.weight = nn.Parameter(torch.zeros(units, d_model)) if full else None
        self.up = nn.Parameter(torch.zeros(units, rank or 0)) if low else None
        # As in LoRA, one factor starts random: two zero factors would have no gradient.
        start = torch.randn(rank or 0, d_model, generator=generator) / d_model**0.5
        self.down = nn.Parameter(start) if low else None

    def drive(self, x: torch.Tensor) -> torch.Tensor:
        """W x + b: x [..., d_model] -> fp32 [..., units]. A static gate does not look at x."""
        if self.weight is not None:
            a = F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))
        elif self.up is not None and self.down is not None:
            a = F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype), self.bias.to(x.dtype))
        else:
            a = self.bias.expand(*x.shape[:-1], -1)
        return a.float()

    def delta(self, x: torch.Tensor) -> torch.Tensor:
        """g - 1, in (-1, 1): x [..., d_model] -> fp32 [..., units]."""
        return torch.tanh(self.drive(x) / 2)

    def rows(self) -> tuple[torch.Tensor, ...]:
        """The parameters that have a row a unit, (W, b) or (up, b): scaling or moving their rows does so to units."""
        return tuple(rows for rows in (self.bias, self.weight, self.up) if rows is not None)

    def forward(self, x: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        """The gate's value g_s: x [..., d_model] -> fp32 [..., units]."""
        return 1 + strength * self.delta(x)


def write(z: torch.Tensor, delta: torch.Tensor, strength: float) -> torch.Tensor:
    """z * g_s for z [batch, pos, head, d_head] and delta = g - 1 [batch, pos, units]; keeps z's dtype.

    `strength` 0 returns z's values exactly.
    """
    heads, d_head = z.shape[-2:]
    if delta.shape[-1] == heads * d_head:
        delta = delta.unflatten(-1, (heads, d_head))
    elif delta.shape[-1] in (heads, 1):
        delta = delta.unsqueeze(-1)
    else:
        raise InputError("a gate does not fit z", got=f"{delta.shape[-1]} units, z of {heads} heads x {d_head}")
    return torch.addcmul(z, z, delta.to(z.dtype), value=strength)


def check_strength(strength: Any) -> float:
    """`strength` as a float; raises `InputError` unless it is a finite number."""
    try:
        value = float(strength)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        value = float("nan")
    if value != value or abs(value) == float("inf"):
        raise InputError(
            "strength must be a finite number",
            got=repr(strength),
            do="use +1 for the trained gates, 0 for none, -1 for the inversion",
        )
    return value
