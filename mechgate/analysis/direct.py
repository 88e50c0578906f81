"""Direct and indirect effects of gates: what they do to the answer by themselves, and what through later layers.

The direct effect of some heads' gates is measured with everything downstream frozen: every other attention head's and
every MLP's output is what it is in the base run, and so is what the gates read; only the change of these heads' own outputs
reaches the final norm and the logits. The rest of the effect is indirect: later layers read the change (path patching, Wang
et al., arXiv 2211.00593; mediation, Vig et al., arXiv 2004.12265).

The residual stream is a sum, so with all else frozen the last state is the base's plus the changes that blocks write. One
run gives the changes of all layers at once: every block starts from the base's own residual stream, with gated z and the
base's MLP output.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gate import check_strength, write
from mechgate.gates.gateset import GateSet
from mechgate.gates.subsets import Head, gated_heads, head_units
from mechgate.measure.margins import batch_margins, stance_rows
from mechgate.model import hooking
from mechgate.model.prompts import Batch, collate, length_buckets
from mechgate.model.resume import skipping
from mechgate.model.scoring import final_hidden, without_unread
from mechgate.model.sites import shape_of
from mechgate.progress import track

BATCH_SIZE = 8
_LAST = "ln_final.hook_in"
Part = tuple[int, frozenset[int]]
"""A layer and some of its heads."""


def direct_effects(
    model: Any,
    gates: GateSet,
    sets: Sequence[Iterable[Head]],
    pairs: Sequence[Pair],
    answers: Sequence[tuple[str, str]] | None = None,
    *,
    strength: float,
    batch_size: int = BATCH_SIZE,
    label: str | None = "direct effects",
) -> NDArray[np.float64]:
    """Change of each pair's stance margin by a set's gates, all else frozen at the base's values: [n_sets, n_pairs], nats.

    The whole effect is `analysis.head_sets.SetEffects` of the same sets; what it has beyond this is indirect. Sets are of
    (layer, head) each; a set's parts in other layers add up in the residual stream. Raises `InputError` for no sets, pairs or
    answers, for heads without gates, and as `gates.subsets.gated_heads`.
    """
    gates.check_fits(model)
    total, there = check_strength(strength) * gates.scale, set(gated_heads(gates))
    chosen = [frozenset(one) for one in sets]
    if not chosen or (wrong := sorted(frozenset().union(*chosen) - there)):
        raise InputError("direct effects need sets of gated heads", got=wrong[:3] if chosen else "no sets")
    parts = [
        [(k, frozenset(h for layer, h in one if layer == k)) for k in sorted({k for k, _ in one})] for one in chosen
    ]
    rows = stance_rows(model, pairs, answers)
    device = next(model.original_model.parameters()).device
    found = np.empty((len(chosen), len(rows)))
    for indices in track(length_buckets(list(map(len, rows)), batch_size), label):
        # Without a shared prefix: the frozen values have to cover all tokens of one forward.
        batch = dataclasses.replace(collate([rows[i] for i in indices], device), prefix=0)
        with torch.inference_mode():
            base = _Base(model, batch)
            changes = _changes(base, gates, [part for one in parts for part in one], total)
            start = base.margins(None)
            for i, one in enumerate(parts):
                change = None if not one else torch.stack([changes[part] for part in one]).sum(dim=0)
                found[i, indices] = (base.margins(change) - start).double().cpu().numpy()
    return found


class _Base:
    """A batch's run without gates, and what everything is frozen at."""

    def __init__(self, model: Any, batch: Batch):
        self.model, self.batch, self.run = model, batch, without_unread(batch)[0]
        self.layers = range(shape_of(model).n_layers)
        names = ("hook_in", "attn.hook_in", "attn.hook_z", "mlp.hook_out", "hook_out")
        points = [_LAST, *(f"blocks.{k}.{name}" for k in self.layers for name in names)]
        self.seen: dict[str, torch.Tensor] = {}
        # A copy, lest a block that adds in place changes what was seen.
        hooks: dict[str, hooking.Hook] = {n: lambda v, n=n: self.seen.update({n: v.clone()}) for n in points}
        with hooking.attached(model, hooks):
            final_hidden(model, self.run)

    def margins(self, change: torch.Tensor | None) -> torch.Tensor:
        """Stance margins [rows] with the last residual stream changed by `change` [rows, pos, d_model]."""
        last = self.seen[_LAST]
        last = last if change is None else (last.float() + change).to(last.dtype)
        with skipping(self.model, len(self.layers)), hooking.attached(self.model, {_LAST: lambda _: last}):
            return batch_margins(self.model, self.batch)

    def written(self, z: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        """By layer of `z`, what its block writes more than in the base run when its z is that and its MLP's output the
        base's: fp32 [rows, pos, d_model]."""
        frozen = {f"blocks.{k}.{name}": self.seen[f"blocks.{k}.{name}"] for k in self.layers for name in _FROZEN}
        frozen |= {f"blocks.{k}.attn.hook_z": value for k, value in z.items()}
        hooks: dict[str, hooking.Hook] = {name: lambda _, v=value: v for name, value in frozen.items()}
        out: dict[int, torch.Tensor] = {}
        hooks |= {f"blocks.{k}.hook_out": lambda v, k=k: out.update({k: v.float()}) for k in z}
        with hooking.attached(self.model, hooks):
            final_hidden(self.model, self.run)
        return {k: out[k] - self.seen[f"blocks.{k}.hook_out"].float() for k in z}


_FROZEN = ("hook_in", "mlp.hook_out")


def _changes(base: _Base, gates: GateSet, parts: Sequence[Part], strength: float) -> dict[Part, torch.Tensor]:
    """What each part writes more into the residual stream than in the base run. Parts of different layers share a run."""
    waiting: dict[int, list[Part]] = {}
    for part in dict.fromkeys(parts):
        waiting.setdefault(part[0], []).append(part)
    found: dict[Part, torch.Tensor] = {}
    while now := {layer: queue.pop(0) for layer, queue in waiting.items() if queue}:
        z = {}
        for layer, (_, heads) in now.items():
            delta = gates.gate(layer).delta(base.seen[f"blocks.{layer}.attn.hook_in"]) * head_units(gates, heads)
            z[layer] = write(base.seen[f"blocks.{layer}.attn.hook_z"], delta, strength)
        written = base.written(z)
        found |= {part: written[layer] for layer, part in now.items()}
    return found
