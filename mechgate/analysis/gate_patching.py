"""Single heads' gates knocked out of the gated run or into the ungated one, and gate values taken from another prompt."""

from functools import partial
from typing import Any

import numpy as np
import torch

from mechgate.errors import InputError, check_choice
from mechgate.gates.gate import write
from mechgate.gates.gateset import GateSet
from mechgate.measure.patching import Metric, Prompt, patched, token_ids
from mechgate.model.resume import Resumable


def knock_heads(
    model: Any,
    gates: GateSet,
    prompt: Prompt,
    metric: Metric,
    *,
    strength: float,
    way: str = "out",
    logits: int = 1,
    label: str | None = "knocking heads",
) -> np.ndarray:
    """The metric with one head's gates knocked "out" of the gated run, or "in" to the ungated one: [n_layers, n_heads].

    A head that has no gates changes nothing. Otherwise as `patch_heads`. Raises `InputError` for another `way`.
    """
    check_choice("way", way, ("out", "in"))
    ids = token_ids(model, prompt)
    if way == "in":
        run = Resumable(model, ids)
        return patched(run, _gated(run, gates, strength, run.attn_in), metric, logits=logits, label=label)
    run = Resumable(model, ids, during=partial(gates.attached, model, strength))
    return patched(run, run.raw_z, metric, logits=logits, label=label)


def patch_gates(
    model: Any,
    gates: GateSet,
    source: Prompt,
    prompt: Prompt,
    metric: Metric,
    *,
    strength: float,
    logits: int = 1,
    label: str | None = "patching gates",
) -> np.ndarray:
    """The metric of the gated run of `prompt` with one head's gate values taken from the gated run of `source` (an unsafe
    prompt's gates in a safe one, say), token by token: [n_layers, n_heads]. z itself stays the prompt's own.

    Otherwise as `patch_heads`.
    """
    ids = [token_ids(model, one) for one in (source, prompt)]
    if len(ids[0]) != len(ids[1]):
        raise InputError("source and prompt need equally many tokens", got=f"{len(ids[0])} and {len(ids[1])}")
    during = partial(gates.attached, model, strength)
    other, run = (Resumable(model, one, during=during) for one in ids)
    return patched(run, _gated(run, gates, strength, other.attn_in), metric, logits=logits, label=label)


def _gated(run: Resumable, gates: GateSet, strength: float, read: torch.Tensor) -> torch.Tensor:
    """z of the run as attention gives it, times gates that read `read` [n_layers, tail, d_model]; layers without gates keep
    z as the run has it."""
    values = run.z.clone()
    with torch.inference_mode():
        for layer in gates.layers:
            delta = gates.gate(layer).delta(read[layer][None])
            values[layer] = write(run.raw_z[layer][None], delta, strength * gates.scale)[0]
    return values
