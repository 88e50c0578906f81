"""Training that is confined to some heads: what belongs to other heads has no gradient, so that it stays what it was."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.model.sites import shape_of

_LORA = re.compile(r"layers\.(\d+)\..*\b(q_proj|o_proj)\.lora_([AB])\.")


@contextmanager
def confined_gates(gates: GateSet, heads: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Inside the block, only the gates of `heads` (layer, head) learn; those of other heads keep g bit for bit.

    For untrained gates with a full or no input that is g = 1 exactly. Weight decay would move the others, so train without.
    Raises `InputError` for gates without a value a head or a z element, for low-rank ones (their `down` is shared by the
    heads of a layer) and for heads of layers without gates.
    """
    if gates.granularity == "layer" or gates.rank is not None:
        raise InputError(
            "these gates cannot be confined to heads", got=repr(gates), do="use full gates of heads or elements"
        )
    if lost := sorted({layer for layer, _ in heads} - set(gates.layers)):
        raise InputError("heads of layers without gates", got=lost, allowed=list(gates.layers))
    with ExitStack() as stack:
        for layer in gates.layers:
            which = [head for k, head in heads if k == layer]
            for rows in gates.gate(layer).rows():
                size = len(rows) // gates.shape.n_heads
                stack.callback(_only(rows, which, size, 0).remove)
        yield


@contextmanager
def _hooked(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def confined_adapter(model: Any, weights: Mapping[str, torch.nn.Parameter], heads: Sequence[tuple[int, int]]) -> Any:
    """A block inside which a LoRA adapter learns only within the slices of W_Q (rows) and W_O (columns) of `heads`.

    The first factor of W_O is set to 0 outside them now; W_Q's second one starts at 0. `weights` are the adapter's, by name.
    Raises `InputError` for weights of other projections, for heads that are not there, and where the queries have not
    `d_head` rows a head.
    """
    shape = shape_of(model)
    if not heads or not all(0 <= k < shape.n_layers and 0 <= h < shape.n_heads for k, h in heads):
        raise InputError(
            "heads that are not there", got=list(heads), allowed=f"below ({shape.n_layers}, {shape.n_heads})"
        )
    handles = []
    for name, parameter in weights.items():
        if not (found := _LORA.search(name)):
            raise InputError(
                "an adapter confined to heads is on q_proj and o_proj only", got=name, do="set its targets"
            )
        which = [head for k, head in heads if k == int(found[1])]
        kind = (found[2], found[3])
        if kind in (("q_proj", "B"), ("o_proj", "A")):
            axis = 0 if kind[0] == "q_proj" else 1
            if parameter.shape[axis] != shape.d_z:
                raise InputError(
                    "the projection does not have d_head rows a head", got=f"{name} {tuple(parameter.shape)}"
                )
            with torch.no_grad():
                parameter.mul_(_mask(parameter, which, shape.d_head, axis))
            handles.append(_only(parameter, which, shape.d_head, axis))
    return _hooked(handles)


def _only(parameter: torch.Tensor, heads: Sequence[int], size: int, axis: int) -> Any:
    mask = _mask(parameter, heads, size, axis)
    return parameter.register_hook(lambda gradient: gradient * mask)


def _mask(parameter: torch.Tensor, heads: Sequence[int], size: int, axis: int) -> torch.Tensor:
    mask = torch.zeros(parameter.shape[axis], device=parameter.device)
    for head in heads:
        mask[head * size : (head + 1) * size] = 1
    return mask if axis or parameter.ndim == 1 else mask[:, None]
