"""Linear detectors of a kind of prompt, in what gates read while the model answers: one direction a layer, closed form."""

from collections.abc import Sequence
from typing import Any

import torch

from mechgate.data.pairs import Example
from mechgate.errors import InputError
from mechgate.gates.neutral import neutral_inputs
from mechgate.model.prompts import Row, collate, length_buckets
from mechgate.train.loop import encode_examples

_RIDGE = 0.01  # times the mean of the diagonal
_BATCH = 16


def detectors(
    model: Any, wanted: Sequence[Example], unwanted: Sequence[Sequence[Example]], layers: Sequence[int]
) -> dict[int, torch.Tensor]:
    """For each layer the w [d_model] whose w . x is 1 in the mean over `wanted` and 0 over each group of `unwanted`.

    x is what a gate reads (the attention block's normalised input, of the model as it is) at the tokens of the answers
    and at the end of the prompt that all prompts share, the template's turn to the assistant. Of all such w it is the
    one with the least mean square over the groups (each counts alike), with a small ridge: in signal processing a
    linearly constrained minimum variance filter. fp32, on the model's device.

    Raises `InputError` for no layers or an empty group, or groups with the same mean, `DataError` for an example that
    cannot be used.
    """
    groups = [list(wanted), *map(list, unwanted)]
    if not layers or not all(groups):
        raise InputError(
            "a detector needs layers and examples in every group", got=f"{len(layers)} layers, {list(map(len, groups))}"
        )
    rows = [encode_examples(model, group, "example to detect") for group in groups]
    ending = _shared_ending([row.prompt for group in rows for row in group])
    found = [_moments(model, group, ending, layers) for group in rows]
    device = next(model.original_model.parameters()).device
    wishes = torch.zeros(len(groups), dtype=torch.float64)
    wishes[0] = 1.0
    result = {}
    for layer in layers:
        means = torch.stack([moments[layer][0] for moments in found], dim=1)  # [d_model, groups]
        spread = torch.stack([moments[layer][1] for moments in found]).mean(dim=0)
        spread += _RIDGE * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype)
        reach = torch.linalg.solve(spread, means)
        gram = means.T @ reach
        if torch.linalg.cond(gram) > 1e9:
            raise InputError(
                "the groups cannot be told apart", got=f"means that depend on one another in layer {layer}"
            )
        result[layer] = (reach @ torch.linalg.solve(gram, wishes)).float().to(device)
    return result


def _moments(
    model: Any, rows: list[Row], ending: int, layers: Sequence[int]
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Mean [d_model] and mean product [d_model, d_model] of x at each layer, fp64 on the CPU."""
    device = next(model.original_model.parameters()).device
    sums: dict[int, list[torch.Tensor]] = {}
    n = 0
    for indices in length_buckets(list(map(len, rows)), _BATCH):
        inputs = neutral_inputs(model, collate([rows[i] for i in indices], device), layers)
        begin = torch.tensor([len(rows[i].prompt) - ending for i in indices], device=device)
        read = inputs.position >= begin[inputs.row]
        n += int(read.sum())
        for layer in layers:
            x = inputs.x[layer][read].double().cpu()
            both = sums.setdefault(
                layer, [torch.zeros(x.shape[1]).double(), torch.zeros(x.shape[1], x.shape[1]).double()]
            )
            both[0] += x.sum(dim=0)
            both[1] += x.T @ x
    return {layer: (total / n, products / n) for layer, (total, products) in sums.items()}


def _shared_ending(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many last tokens all prompts share, at least 1: at the last token the answer is decided."""
    first, last = min(p[::-1] for p in prompts), max(p[::-1] for p in prompts)  # what the extremes share, all share
    limit = min(map(len, prompts))
    return max(1, next((i for i in range(limit) if first[i] != last[i]), limit))
