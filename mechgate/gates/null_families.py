"""How a null of each family is drawn from learned gates, before it is matched.

Each function leaves the learned gates as they are and raises `InputError` where its family makes no sense for them.
Units are head-major: an element gate's head h owns rows h * d_head to (h + 1) * d_head - 1.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from mechgate.errors import InputError
from mechgate.gates.donor import DonorGateSet
from mechgate.gates.gate import GRANULARITIES, INPUTS
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs


def row_sign(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """Flip the sign of (W, b) row by row: |g - 1| stays exactly as it was, for every input."""
    return _flipped(gates, lambda units: generator.choice([-1.0, 1.0], size=units))


def head_sign(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """Flip the signs of whole heads."""
    heads = gates.shape.n_heads
    _check(gates, "head-sign", granularities=("element", "head"))
    return _flipped(gates, lambda units: generator.choice([-1.0, 1.0], size=heads).repeat(units // heads))


def layer_sign(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """Flip the signs of whole layers."""
    return _flipped(gates, lambda units: generator.choice([-1.0, 1.0], size=1).repeat(units))


def head_permutation(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """Permute the heads' gates within each layer."""
    heads = gates.shape.n_heads
    _check(gates, "head-permutation", granularities=("element", "head"), several={"head": heads})
    return _reordered(gates, lambda units: _by_head(generator.permutation(heads), units // heads))


def group_permutation(gates: GateSet, generator: np.random.Generator, group: int) -> GateSet:
    """Permute the heads' gates within each group of `group` heads that share keys and values."""
    heads = gates.shape.n_heads
    several = {"head that shares its keys and values": group}
    _check(gates, "group-permutation", granularities=("element", "head"), several=several)

    def order(units: int) -> np.ndarray:
        within = [start + generator.permutation(group) for start in range(0, heads, group)]
        return _by_head(np.concatenate(within), units // heads)

    return _reordered(gates, order)


def dimension_permutation(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """Permute the gates of the dimensions within each head."""
    heads, d_head = gates.shape.n_heads, gates.shape.d_head
    _check(gates, "dimension-permutation", granularities=("element",), several={"dimension a head": d_head})
    return _reordered(
        gates, lambda _: np.concatenate([h * d_head + generator.permutation(d_head) for h in range(heads)])
    )


def layer_permutation(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """Give each gated layer the gate of another, or by chance its own."""
    _check(gates, "layer-permutation", several={"gated layer": len(gates.layers)})
    null = copy.deepcopy(gates)
    with torch.no_grad():
        for layer, source in zip(gates.layers, generator.permutation(gates.layers), strict=True):
            null.gate(layer).load_state_dict(gates.gate(int(source)).state_dict())
    return null


def haar(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """W -> Q W R and b -> Q b with Haar-random rotations Q (units) and R (d_model).

    W keeps its singular values and gets random singular vectors; b keeps its length and its place among W's left
    singular vectors, and so its share in the gate.
    """
    _check(gates, "haar", inputs=("linear",))
    null = copy.deepcopy(gates)
    with torch.no_grad():
        for layer in gates.layers:
            gate = null.gate(layer)
            left = _orthogonal(gate.bias.shape[0], generator).to(gate.bias)
            right = _orthogonal(gates.shape.d_model, generator).to(gate.bias)
            for rows in gate.rows():
                rows.copy_(left @ rows)
            for columns in (gate.weight, gate.down):
                if columns is not None:
                    columns.copy_(columns @ right)
    return null


def gaussian(gates: GateSet, generator: np.random.Generator) -> GateSet:
    """Independent normal entries, with the learned RMS of W (of each factor, if low-rank) and of b, layer by layer."""
    null = copy.deepcopy(gates)
    with torch.no_grad():
        for parameter in null.parameters():
            size = parameter.double().pow(2).mean().sqrt()
            parameter.copy_(torch.from_numpy(generator.standard_normal(parameter.shape)).to(parameter) * size)
    return null


def other_prompt(gates: GateSet, generator: np.random.Generator, inputs: NeutralInputs) -> GateSet:
    """The values of the learned gate on one of the neutral rows, whatever the input: see `mechgate.gates.donor`."""
    _check(gates, "other-prompt", inputs=("linear",))
    return DonorGateSet(gates, inputs, int(generator.integers(inputs.n_rows)))


def static_mean(gates: GateSet, inputs: NeutralInputs) -> GateSet:
    """A static gate with each unit's mean g - 1 over the neutral tokens."""
    _check(gates, "static-mean", inputs=("linear",))
    return _static(gates, gates.granularity, inputs, lambda delta: delta.mean(dim=0))


def dampener(gates: GateSet, inputs: NeutralInputs) -> GateSet:
    """g = 1 - RMS(g - 1) for all units of a layer."""
    return _static(gates, "layer", inputs, lambda delta: -delta.pow(2).mean().sqrt()[None])


def head_dampener(gates: GateSet, inputs: NeutralInputs) -> GateSet:
    """g = 1 - RMS(g - 1) for all units of a head, with the RMS over the head's units."""
    heads = gates.shape.n_heads
    _check(gates, "head-dampener", granularities=("element", "head"))
    return _static(gates, "head", inputs, lambda d: -d.unflatten(-1, (heads, -1)).pow(2).mean(dim=(0, 2)).sqrt())


def _flipped(gates: GateSet, draw: Callable[[int], np.ndarray]) -> GateSet:
    """Multiply each layer's rows by the signs that `draw` gives for its number of units."""
    null = copy.deepcopy(gates)
    with torch.no_grad():
        for layer in gates.layers:
            gate = null.gate(layer)
            signs = torch.from_numpy(draw(gate.bias.numel())).to(gate.bias)
            for rows in gate.rows():
                rows.mul_(signs if rows.ndim == 1 else signs[:, None])
    return null


def _reordered(gates: GateSet, draw: Callable[[int], np.ndarray]) -> GateSet:
    """Put each layer's rows in the order that `draw` gives for its number of units."""
    null = copy.deepcopy(gates)
    with torch.no_grad():
        for layer in gates.layers:
            gate = null.gate(layer)
            order = torch.from_numpy(draw(gate.bias.numel())).to(gate.bias.device)
            for rows in gate.rows():
                rows.copy_(rows[order])
    return null


def _by_head(order: np.ndarray, each: int) -> np.ndarray:
    """An order of heads as one of units, `each` to a head."""
    return (order[:, None] * each + np.arange(each)).reshape(-1)


def _orthogonal(n: int, generator: np.random.Generator) -> torch.Tensor:
    """A Haar-random orthogonal matrix, fp64: QR of a Gaussian, with the signs that make it unique (Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.from_numpy(generator.standard_normal((n, n))))
    return q * r.diagonal().sign()


def _static(
    gates: GateSet, granularity: str, inputs: NeutralInputs, value: Callable[[torch.Tensor], torch.Tensor]
) -> GateSet:
    """A static gate whose g - 1 is `value` of the learned g - 1 [tokens, units] on the neutral tokens."""
    null = GateSet(gates.shape, layers=gates.layers, granularity=granularity, input="static", made_for=gates.made_for)
    null.scale = gates.scale
    with torch.no_grad():
        for layer in gates.layers:
            bias = 2 * torch.atanh(value(gates.gate(layer).delta(inputs.x[layer]).double()))
            if not torch.isfinite(bias).all():
                raise InputError(
                    "the learned gate is closed or wide open on every neutral token, so no static gate has its size",
                    got=f"layer {layer}",
                )
            null.gate(layer).bias.copy_(bias)
    return null.to(next(gates.parameters()).device)


def _check(
    gates: GateSet,
    family: str,
    *,
    granularities: Sequence[str] = GRANULARITIES,
    inputs: Sequence[str] = INPUTS,
    several: Mapping[str, int] | None = None,
) -> None:
    """Raise `InputError` unless the gates have what the family turns, moves or averages."""
    problem = None
    if gates.granularity not in granularities:
        problem = f"gates with one value a {gates.granularity}", f"granularity {' or '.join(granularities)}"
    elif gates.input not in inputs:
        problem = f"{gates.input} gates, which do not depend on their input", f"{' or '.join(inputs)} gates"
    for what, n in (several or {}).items():
        if problem is None and n < 2:
            problem = f"{n} {what}", f"at least 2 {what}, or there is nothing to permute".replace(" a head", "s a head")
    if problem is not None:
        raise InputError(f"the {family} family makes no sense for these gates", got=problem[0], allowed=problem[1])
