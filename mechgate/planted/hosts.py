"""Planted hosts: a base model made to agree with false claims through known heads alone.

Two kinds. "gates": gates on these heads, trained and frozen in. "weights": LoRA confined to these heads' slices of W_Q and
W_O (not W_V or W_K, which grouped queries share). Either differs from its base in what these heads write and in
nothing else, so that putting the base's results back restores the base (`restoration_gap`): the truth is exact.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechgate.errors import InputError, check_choice
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates
from mechgate.measure.margins import stance_margins
from mechgate.measure.result_patching import ResultPatches
from mechgate.model.prompts import prompt_ids
from mechgate.model.resume import Resumable
from mechgate.model.scoring import logits_of
from mechgate.model.sites import shape_of
from mechgate.planted.world import Head, World, agreeing, check_heads
from mechgate.seeding import rng
from mechgate.train.confined import confined_gates
from mechgate.train.gates import train_gates
from mechgate.train.hosts import LoraSettings, train_lora_host
from mechgate.train.loop import TrainConfig

KINDS = ("gates", "weights")


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A host and its base, the `heads` that differ, and how far the behaviour took: `effect`, the mean change of the stance
    margin on held-out false claims (nats), and `gap`, the largest difference of a logit from the base once the heads' results
    are put back."""

    world: World
    kind: str
    heads: tuple[Head, ...]
    base: Any
    host: Any
    effect: float
    gap: float

    @property
    def truth(self) -> np.ndarray:
        """Which heads carry the behaviour: bool [n_layers, n_heads]."""
        return truth_map(self.heads, self.base)


def plant_host(
    world: World,
    kind: str,
    heads: Sequence[Head],
    path: str | Path,
    *,
    config: TrainConfig,
    examples: int | None = None,
) -> None:
    """Train a plant and write it to `path`: a gate file (.safetensors), or an adapter folder.

    It learns to agree with all claims of the train split (`examples` pairs of a false and a true one). Raises `InputError` for
    another kind, for heads that are not there, and for weight decay, which would move other heads' gates.
    """
    check_choice("kind", kind, KINDS)
    if config.weight_decay:
        raise InputError("plants are trained without weight decay", got=config.weight_decay)
    shown = agreeing(*world.claims("train", examples))
    base = world.load()
    chosen = check_heads(heads, shape_of(base).n_layers, shape_of(base).n_heads)
    if kind == "weights":
        lora = LoraSettings(rank=8, alpha=16, targets=("q_proj", "o_proj"), heads=chosen)
        train_lora_host(world.source, shown, config, path, lora=lora, dtype="float32", device="cpu")
        return
    gates = GateSet.identity(base, layers=sorted({layer for layer, _ in chosen}))
    with confined_gates(gates, chosen):
        train_gates(base, gates, shown, config)
    gates.save(path)


def load_plant(
    world: World, kind: str, heads: Sequence[Head], path: str | Path, *, claims: int | None = None, base: Any = None
) -> Plant:
    """A plant from its file, its effect and gap measured on `claims` held-out false claims. `base` saves loading it again."""
    check_choice("kind", kind, KINDS)
    base = world.load() if base is None else base
    if kind == "weights":
        host = world.load(adapter=path)
    else:
        host = world.load()
        freeze_in(host, load_gates(path, host))
    false, _ = world.claims("test", claims)
    margins = [stance_margins(one, false, list(world.answers), label=None) for one in (host, base)]
    prompts = [prompt_ids(base, pair.messages) for pair in false[:2]]
    return Plant(
        world=world,
        kind=kind,
        heads=check_heads(heads, shape_of(base).n_layers, shape_of(base).n_heads),
        base=base,
        host=host,
        effect=float(np.mean(margins[0] - margins[1])),
        gap=max(restoration_gap(host, base, ids, heads) for ids in prompts),
    )


def freeze_in(model: Any, gates: GateSet, strength: float = 1.0) -> None:
    """Attach gates to `model` for good: from here on it is the host. What is attached later sees their z."""
    stack = ExitStack()
    stack.enter_context(gates.attached(model, strength))
    model.__dict__.setdefault("_mechgate_frozen", []).append(stack)


def restoration_gap(host: Any, base: Any, ids: Sequence[int], heads: Sequence[Head]) -> float:
    """The largest absolute difference of a logit between the base and the host with the results z W_O of `heads` taken from the
    base's run, over all positions of the prompt. Rounding (1e-5 in fp32) where the host differs in these heads alone."""
    restored = ResultPatches(host, base).restored(ids, heads)
    with torch.inference_mode():
        own = logits_of(base, Resumable(base, ids).hidden)
    return float((restored - own).abs().max())


def draw_heads(model: Any, size: int, *, seed: int, lowest: int = 0) -> tuple[Head, ...]:
    """`size` heads of layers from `lowest` on, drawn by `seed`. Raises `InputError` for more than there are."""
    shape = shape_of(model)
    there = [(k, h) for k in range(lowest, shape.n_layers) for h in range(shape.n_heads)]
    if not 1 <= size < len(there):
        raise InputError("that many heads cannot be drawn", got=size, allowed=f"1 to {len(there) - 1}")
    return tuple(sorted(there[i] for i in rng(seed, "planted heads", size).permutation(len(there))[:size]))


def truth_map(heads: Sequence[Head], model: Any) -> np.ndarray:
    """The heads as bool [n_layers, n_heads]."""
    found = np.zeros((shape_of(model).n_layers, shape_of(model).n_heads), dtype=bool)
    found[tuple(np.array(heads).T)] = True
    return found
