"""What gates read: the directions in their input that their weights are most sensitive to, and how hard they are driven."""

import numpy as np
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet

_RANK = 1e-6


def read_directions(gates: GateSet, k: int = 4) -> dict[int, np.ndarray]:
    """The top right-singular vectors of each gated layer's W, in the input's own basis: fp64 [at most k, d_model] by layer.

    Orthonormal rows, the most sensitive first; fewer than `k` where W's rank is lower, none where W is 0 or where the
    gate reads nothing (a static one). The input is the block's normalised one, `blocks.L.attn.hook_in`: compare them
    with directions that were read there. Signs mean nothing. Raises `InputError` for k below 1.
    """
    if k < 1:
        raise InputError("at least one direction is asked for", got=k)
    found = {}
    for layer in gates.layers:
        gate = gates.gate(layer)
        if gate.weight is not None:
            weight = gate.weight.detach().double()
        elif gate.up is not None and gate.down is not None:
            weight = gate.up.detach().double() @ gate.down.detach().double()
        else:
            weight = torch.zeros(1, gates.shape.d_model, dtype=torch.float64)
        _, sizes, rows = torch.linalg.svd(weight.cpu(), full_matrices=False)
        rank = int((sizes > _RANK * sizes[0]).sum()) if sizes[0] > 0 else 0
        found[layer] = rows[: min(k, rank)].numpy()
    return found


def mean_drives(gates: GateSet, inputs: np.ndarray) -> np.ndarray:
    """Mean |W x + b| over a layer's units, for inputs [n, n_layers, d_model] at `hook_in`: [n, gated layers].

    How hard each layer's gate is driven by each input. Raises `InputError` for inputs of another shape.
    """
    shape = gates.shape
    if inputs.ndim != 3 or inputs.shape[1:] != (shape.n_layers, shape.d_model):
        raise InputError(
            "the inputs are not those of these gates",
            got=f"shape {inputs.shape}",
            allowed=f"[n, {shape.n_layers}, {shape.d_model}]",
        )
    with torch.no_grad():
        columns = []
        for layer in gates.layers:
            gate = gates.gate(layer)
            x = torch.from_numpy(np.ascontiguousarray(inputs[:, layer])).to(gate.bias.device)
            columns.append(gate.drive(x).abs().mean(dim=1).double().cpu().numpy())
    return np.stack(columns, axis=1)
