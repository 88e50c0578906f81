"""Matching a null gate to a learned one on what it does: layer by layer, (W, b) times one number.

Weights of equal size do not do equally much, and "a random gate did nothing" says nothing of a gate that hardly acts.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import brentq

from mechgate.errors import InputError
from mechgate.gates.donor import DonorGateSet
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs

MATCHES = ("gate", "output")
TOLERANCE = 0.01
_SAME = 1e-6  # closer than this at multiplier 1 is rounding: the null is left as it is, bit for bit
_SOLVED = 1e-5
_FARTHEST = 1e6


def match_layers(null: GateSet, learned: GateSet, inputs: NeutralInputs, match: str = "gate") -> dict[str, Any]:
    """Multiply each layer of `null` in place so that it does as much on the neutral tokens as `learned` does.

    `match` "gate": RMS(g - 1) over tokens and units; "output": RMS of the change of the attention output,
    (z * (g - 1)) W_O with z of the ungated model, over tokens and d_model. Both at strength 1, without `scale`.

    Returns lists with an entry a layer: the multipliers `alpha`, and of learned and null the matched `rms`,
    `mean_abs` |g - 1| and `mean_log` g; and `largest_mismatch`, |rms of null / rms of learned - 1| at its worst.
    Raises `InputError` naming the layer and the reason where they cannot be matched within 1%.
    """
    report: dict[str, Any] = {"match": match, "tokens": inputs.n_tokens, "layers": list(null.layers), "alpha": []}
    report |= {f"{what}_{of}": [] for what in ("rms", "mean_abs", "mean_log") for of in ("learned", "null")}
    worst = 0.0
    for layer in null.layers:
        size = _size(inputs, layer, match)
        drive = _drive(learned, inputs, layer)
        wanted = size(drive)
        _note(report, "learned", drive, wanted)
        if wanted == 0:
            raise _unmatched(layer, "the learned gate does nothing there (g = 1), so there is no size to match")
        drive = _drive(null, inputs, layer)
        alpha = _multiplier(size, drive, wanted, layer)
        if alpha != 1:
            with torch.no_grad():
                for rows in null.gate(layer).rows():
                    rows.mul_(alpha)
            drive = _drive(null, inputs, layer)  # what it really does, with the rounding of the model's dtype
        got = size(drive)
        _note(report, "null", drive, got)
        report["alpha"].append(alpha)
        worst = max(worst, abs(got / wanted - 1))
        if not abs(got / wanted - 1) <= TOLERANCE:
            raise _unmatched(layer, f"RMS {got:.3g} where {wanted:.3g} is wanted, after rounding")
    return report | {"largest_mismatch": worst}


def _drive(gates: GateSet, inputs: NeutralInputs, layer: int) -> torch.Tensor:
    """W x + b on the neutral tokens: fp32 [tokens, units]."""
    where = gates.at(inputs.position) if isinstance(gates, DonorGateSet) else contextlib.nullcontext()
    with torch.no_grad(), where:
        return gates.gate(layer).drive(inputs.x[layer]).detach()


def _size(inputs: NeutralInputs, layer: int, match: str) -> Callable[[torch.Tensor], float]:
    """How much a gate with a given drive [tokens, units] does."""

    def of_gate(drive: torch.Tensor) -> float:
        return _rms(torch.tanh(drive / 2))

    def of_output(drive: torch.Tensor) -> float:
        z = inputs.z[layer].float()
        delta = torch.tanh(drive / 2)
        # One number for all units, a number a head, or one a unit.
        delta = delta.unflatten(-1, z.shape[1:]) if delta.shape[-1] == z[0].numel() else delta[..., None]
        return _rms((z * delta).flatten(1) @ inputs.w_o[layer])

    return {"gate": of_gate, "output": of_output}[match]


def _rms(values: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) / math.sqrt(values.numel())


def _multiplier(size: Callable[[torch.Tensor], float], drive: torch.Tensor, wanted: float, layer: int) -> float:
    """The multiplier of the drive at which its size is `wanted`."""
    first = size(drive)
    if first == 0:
        raise _unmatched(layer, "the null does nothing there (g = 1), at any multiplier")
    if abs(first / wanted - 1) < _SAME:
        return 1.0

    def excess(log_alpha: float) -> float:
        return math.log(max(size(drive * math.exp(log_alpha)), 1e-300) / wanted)

    # A gate saturates, so the multiplier lies on the far side of what would do for a linear one.
    near = math.log(wanted / first)
    end = excess(near)
    if abs(end) < _SOLVED:
        return math.exp(near)
    step = 0.1 if end < 0 else -0.1
    far = near + step
    while (reached := excess(far)) * end > 0:
        near, end, step = far, reached, 2 * step
        far += step
        if abs(far) > math.log(_FARTHEST):
            raise _unmatched(
                layer,
                f"RMS {math.exp(end) * wanted:.3g} where {wanted:.3g} is wanted, even with (W, b) times "
                f"{math.exp(near):.3g}: the null saturates",
            )
    root: Any = brentq(excess, min(near, far), max(near, far), xtol=_SOLVED)
    return math.exp(root)


def _note(report: dict[str, Any], of: str, drive: torch.Tensor, rms: float) -> None:
    report[f"rms_{of}"].append(rms)
    report[f"mean_abs_{of}"].append(float(torch.tanh(drive / 2).abs().mean(dtype=torch.float64)))
    # log g = log(2 sigmoid(drive)); from g itself, a closed gate would give minus infinity.
    log_g = torch.nn.functional.logsigmoid(drive).mean(dtype=torch.float64)
    report[f"mean_log_{of}"].append(float(log_g) + math.log(2))


def _unmatched(layer: int, why: str) -> InputError:
    return InputError(
        f"the null cannot be matched to the learned gate in layer {layer}",
        got=why,
        do="use another family, or gates on other layers; report the family as not matchable",
    )
