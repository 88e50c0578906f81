"""Activation patching, head by head: one head's z in one run is replaced by its value elsewhere; what does that change?

All heads of a layer are rows of one batch, which is resumed at that layer (`model.resume`). Values can come from another
prompt, another model (a host), the same model with or without gates, or a mean; so one function patches clean into
corrupted and back, and `analysis.gate_patching` transplants gate values and knocks single heads' gates in and out.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.model.prompts import Batch, prompt_ids, shared_prefix
from mechgate.model.resume import Attached, Resumable
from mechgate.model.scoring import logits_of
from mechgate.model.sites import check_gateable, shape_of
from mechgate.progress import track

Prompt = Pair | Batch | torch.Tensor | Sequence[int]
Metric = Callable[[torch.Tensor], Any]
"""Gets the logits of one run [1, n, vocabulary] (fp32), the last position at -1; returns a number."""


def patch_heads(
    model: Any,
    clean: Prompt,
    corrupted: Prompt,
    metric: Metric,
    *,
    source: Any = None,
    during: Attached = nullcontext,
    positions: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    logits: int = 1,
    label: str | None = "patching heads",
) -> np.ndarray:
    """Each head's clean z put into the corrupted run: the metric of each patched run, fp64 [n_layers, n_heads].

    `clean` and `corrupted` are prompts of equally many tokens: ids [pos] or [1, pos], pairs (their conversations) or
    batches of one row. `metric` gets the last `logits` positions' logits. The clean run is in `source` (default: `model`
    as it is; a host, say), the corrupted and the patched ones in `model` inside `during` (gates attached, say).
    `positions` are patched (default: all); a negative one counts from the end. The result has a row for each of
    `layers` (default: all).

    Swap clean and corrupted for the way back. Values equal those of TransformerLens'
    `patching.get_act_patch_attn_head_out_all_pos` (1e-4 in fp32). Raises `InputError` for prompts of different lengths or
    other than one row, and for positions and layers that are not there.
    """
    first, second = token_ids(model, clean), token_ids(model, corrupted)
    prefix = shared_start(first, second, logits, alike=source is None and during is nullcontext)
    values = Resumable(model if source is None else source, first, prefix=prefix).z
    run = Resumable(model, second, prefix=prefix, during=during)
    return patched(run, values, metric, positions=positions, layers=layers, logits=logits, label=label)


def patched(
    run: Resumable,
    values: torch.Tensor,
    metric: Metric,
    *,
    positions: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    logits: int = 1,
    label: str | None = None,
) -> np.ndarray:
    """The metric of `run` with one head's z replaced by `values` [n_layers, tail, n_heads, d_head]: fp64 [layers, n_heads].

    Raises as `patch_heads`, and for a metric that does not give a number.
    """
    shape = shape_of(run.model)
    chosen = list(range(shape.n_layers)) if layers is None else list(layers)
    if wrong := [k for k in chosen if not 0 <= k < shape.n_layers]:
        raise InputError("layers that are not there", got=wrong, allowed=f"0 to {shape.n_layers - 1}")
    if not 1 <= logits <= len(run.ids) - run.prefix:
        raise InputError("that many positions have no logits", got=logits, allowed=f"1 to {len(run.ids) - run.prefix}")
    where = _places(run, positions)
    heads = torch.arange(shape.n_heads, device=values.device)
    found = np.empty((len(chosen), shape.n_heads))
    with run.attached():
        for i, layer in enumerate(track(chosen, label)):

            def replace(z: torch.Tensor, layer: int = layer) -> torch.Tensor:
                z = z.clone()
                for place in where:
                    z[heads, place, heads] = values[layer, place].to(z)
                return z

            hidden = run.run(layer, shape.n_heads, {f"blocks.{layer}.attn.hook_z": replace})
            each = logits_of(run.model, hidden[:, hidden.shape[1] - logits :])
            found[i] = [_number(metric(each[head : head + 1])) for head in range(shape.n_heads)]
    return found


def shared_start(first: Sequence[int], second: Sequence[int], logits: int, *, alike: bool) -> int:
    """How many tokens both prompts begin with and need be run once only. None are where the runs are not `alike` (another
    model, gates): these differ from the first token on. Raises `InputError` for prompts of different lengths."""
    if len(first) != len(second):
        raise InputError("clean and corrupted need equally many tokens", got=f"{len(first)} and {len(second)}")
    prefix = shared_prefix([tuple(first), tuple(second)]) if alike else 0
    return prefix if logits <= len(first) - prefix else 0


def unpatched(run: Resumable, metric: Metric, *, logits: int = 1) -> float:
    """The metric of the run itself: what patched values are compared with."""
    return _number(metric(logits_of(run.model, run.hidden[None, len(run.hidden) - logits :])))


def _places(run: Resumable, positions: Sequence[int] | None) -> list[int]:
    n = len(run.ids)
    if positions is None:
        return list(range(n - run.prefix))
    if wrong := [p for p in positions if not -n <= p < n]:
        raise InputError("positions that are not there", got=wrong, allowed=f"{-n} to {n - 1}")
    # Before the prefix's end both runs are the same: there is nothing to patch.
    return [p % n - run.prefix for p in positions if p % n >= run.prefix]


def token_ids(model: Any, prompt: Prompt) -> tuple[int, ...]:
    """A prompt's token ids. Raises `InputError` for other than one row of ids."""
    check_gateable(model, allow_post_norm=True)
    if isinstance(prompt, Pair):
        return prompt_ids(model, prompt.messages)
    if isinstance(prompt, Batch):
        prompt = prompt.tokens[:, : int(prompt.mask.sum())] if len(prompt.tokens) == 1 else prompt.tokens
    ids = torch.as_tensor(prompt)
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or len(ids) != 1 or not ids.shape[1] or ids.is_floating_point():
        raise InputError("a prompt is one row of token ids", got=tuple(ids.shape), allowed="[pos] or [1, pos]")
    return tuple(ids[0].tolist())


def _number(value: Any) -> float:
    found = torch.as_tensor(value, dtype=torch.float64)
    if found.numel() != 1 or not torch.isfinite(found).all():
        raise InputError("a metric must give one finite number", got=str(value)[:80])
    return float(found)
