"""Scores of heads, one map a method: how much each method thinks that a head carries the behaviour. Larger is more.

The scene is a model that shows the behaviour, claims on which it does (`false`) and matched ones (`true`), and, where there
is one, the base it was made from. Methods that need the base say so in `NEEDS_BASE`: who studies a model in the wild may
have none. SAEs have no row: their latents live in the residual stream, and what a head writes along a latent's direction
ranks heads by the same projection as a mean-difference direction does, with a basis to be trained first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mechgate.analysis.atlas import head_activity
from mechgate.analysis.attribution import Screen, screen
from mechgate.analysis.gate_patching import knock_heads
from mechgate.analysis.truth_probe import Statements, held_out_accuracy
from mechgate.causality.maps import first_token_stance
from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.activations import activations
from mechgate.measure.patch_screen import attribute_heads
from mechgate.measure.patching import patch_heads, unpatched
from mechgate.measure.result_patching import ResultPatches
from mechgate.model.prompts import prompt_ids
from mechgate.model.resume import Resumable
from mechgate.model.sites import output_projection, shape_of
from mechgate.seeding import rng

Maps = dict[str, np.ndarray]
NEEDS_BASE = ("patching, base into host", "attribution patching, base into host", "mean difference, host − base")
_ROUNDING = 1e-5  # nats: heads without gates change that much at most
_PENALTY = 0.1  # inverse, as scikit-learn's C


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What methods look at. `false` and `true` are pairs, the i-th of both about one fact in one wording; `patched` of them are
    patched exactly, those of equally many tokens."""

    model: Any
    base: Any | None
    false: list[Pair]
    true: list[Pair]
    answers: tuple[tuple[str, str], ...]
    patched: int = 4

    def __post_init__(self) -> None:
        if len(self.false) != len(self.true) or len(self.false) < 6:
            raise InputError(
                "methods need at least 6 false claims and as many true ones", got=f"{len(self.false)}, {len(self.true)}"
            )

    def equal(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Ids of false and true claims of equally many tokens, at most `patched`. Raises `InputError` where there are none."""
        both = [
            (prompt_ids(self.model, f.messages), prompt_ids(self.model, t.messages))
            for f, t in zip(self.false, self.true, strict=True)
        ]
        found = [two for two in both if len(two[0]) == len(two[1])][: self.patched]
        if not found:
            raise InputError("no false and true claims have equally many tokens", got=f"{len(both)} pairs")
        return found


def scene_maps(scene: Scene, *, seed: int) -> Maps:
    """The maps [n_layers, n_heads] of every method that needs no gates. `seed` splits facts for probes and draws the random order."""
    shape = shape_of(scene.model)
    one = screen(scene.model, scene.false, list(scene.answers), label=None)
    found = {
        **_patches(scene),
        "gradient x z": np.abs(_slopes(one)),
        "probe on z, false or true": _probes(scene, seed),
        "mean difference, false − true": _projected(scene),
        "random order": rng(seed, "planted", "random order").random((shape.n_layers, shape.n_heads)),
    }
    return found


def gate_sizes(scene: Scene, gates: GateSet, *, strength: float) -> Maps:
    """Mean |g - 1| [n_layers, n_heads] on false claims, at the strength at which the gates act; 0 in layers without any."""
    return {"|g − 1|": _everywhere(scene, gates, _sizes(scene, gates, scene.false, strength))}


def gate_maps(scene: Scene, gates: GateSet, *, strength: float) -> Maps:
    """`gate_sizes`, and three more maps of what gates say: the difference of |g - 1| between false and true claims, first-order
    attribution of the stance, and gates knocked out of the run, head by head."""
    sizes = [_sizes(scene, gates, side, strength) for side in (scene.false, scene.true)]
    one = screen(scene.model, scene.false, list(scene.answers), layers=list(gates.layers), label=None)
    parts = one.heads(gates).mean(axis=0).diagonal(axis1=1, axis2=2)
    found = {
        "|g − 1|": sizes[0],
        "|g − 1|, false − true": np.abs(sizes[0] - sizes[1]),
        "gate attribution": np.abs(strength * parts),
    }
    found = {name: _everywhere(scene, gates, values) for name, values in found.items()}
    return found | {"gates knocked out": _knocked(scene, gates, strength)}


def _sizes(scene: Scene, gates: GateSet, side: list[Pair], strength: float) -> np.ndarray:
    return head_activity(scene.model, gates, side, strength=strength, label=None)[..., 0].mean(axis=0)


def _everywhere(scene: Scene, gates: GateSet, values: np.ndarray) -> np.ndarray:
    shape = shape_of(scene.model)
    whole = np.zeros((shape.n_layers, shape.n_heads))
    whole[list(gates.layers)] = values
    return whole


def _slopes(one: Screen) -> np.ndarray:
    """(d margin / d z) z summed over a head's elements and tokens, mean over prompts: what taking the head away would do, to first
    order."""
    sums = [one.slope[k].sum(dim=0).unflatten(0, (one.shape.n_heads, -1)).sum(dim=1) for k in one.layers]
    return torch.stack(sums).double().numpy() / one.n_prompts


def _patches(scene: Scene) -> Maps:
    metric = first_token_stance(scene.model, scene.answers)
    pairs = scene.equal()
    within: list[list[np.ndarray]] = [[], []]
    between: list[list[np.ndarray]] = [[], []]
    patches = None if scene.base is None else ResultPatches(scene.model, scene.base)
    for false, true in pairs:
        own = unpatched(Resumable(scene.model, false), metric)
        within[0].append(patch_heads(scene.model, true, false, metric, label=None) - own)
        within[1].append(attribute_heads(scene.model, true, false, metric))
        if patches is not None:
            for kept, values in zip(between, patches.maps(false, metric), strict=True):
                kept.append(values)
    found = {"patching, true into false": within[0], "attribution patching, true into false": within[1]}
    if patches is not None:
        found |= {NEEDS_BASE[0]: between[0], NEEDS_BASE[1]: between[1]}
        host, base = (_results(one, scene.false) for one in (scene.model, scene.base))
        moved = [
            activations(one, scene.false, "resid_post", label=None).mean(axis=0) for one in (scene.model, scene.base)
        ]
        direction = _unit(moved[0] - moved[1])
        found[NEEDS_BASE[2]] = [np.einsum("lhd,ld->lh", host - base, direction)]
    return {name: np.abs(np.mean(values, axis=0)) for name, values in found.items()}


def _knocked(scene: Scene, gates: GateSet, strength: float) -> np.ndarray:
    metric = first_token_stance(scene.model, scene.answers)
    changes = []
    for false, _ in scene.equal():
        out = knock_heads(scene.model, gates, false, metric, strength=strength, label=None)
        changes.append(out - _with_gates(scene.model, gates, false, metric, strength))
    size = np.abs(np.mean(changes, axis=0))
    return np.where(size > _ROUNDING, size, 0.0)


def _with_gates(model: Any, gates: GateSet, ids: Sequence[int], metric: Any, strength: float) -> float:
    return unpatched(Resumable(model, ids, during=lambda: gates.attached(model, strength)), metric)


def _probes(scene: Scene, seed: int) -> np.ndarray:
    """Accuracy of a probe on each head's z at the last token, for false against true claims, on facts it was not fitted on."""
    facts = sorted({pair.fact_id for pair in scene.false})
    order = [facts[i] for i in rng(seed, "planted", "probe").permutation(len(facts))]
    z = activations(scene.model, [*scene.false, *scene.true], "z", label=None)
    names = np.array([pair.fact_id for pair in (*scene.false, *scene.true)])
    halves = []
    for half in (order[: len(order) // 2], order[len(order) // 2 :]):
        part = np.isin(names, half)
        true = (np.arange(len(z)) >= len(scene.false))[part]
        halves.append(
            Statements(x=z[part].reshape(int(part.sum()), -1, z.shape[-1]), true=true, facts=tuple(names[part]))
        )
    both = [held_out_accuracy(one, other, c=_PENALTY) for one, other in (halves, halves[::-1])]
    return np.mean(both, axis=0).reshape(z.shape[1:3])


def _projected(scene: Scene) -> np.ndarray:
    """What each head writes, false minus true claims, along the residual stream's own such difference after its layer."""
    written = _results(scene.model, scene.false) - _results(scene.model, scene.true)
    moved = [
        activations(scene.model, side, "resid_post", label=None).mean(axis=0) for side in (scene.false, scene.true)
    ]
    return np.abs(np.einsum("lhd,ld->lh", written, _unit(moved[0] - moved[1])))


def _results(model: Any, pairs: Sequence[Pair]) -> np.ndarray:
    """Mean of z W_O[h] at the prompt's last token: [n_layers, n_heads, d_model]."""
    z = activations(model, pairs, "z", label=None).mean(axis=0)
    w_o = [output_projection(model, k).double().numpy().reshape(*z.shape[1:], -1) for k in range(len(z))]
    return np.stack([np.einsum("he,hed->hd", z[k], w_o[k]) for k in range(len(z))])


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays (a layer before anything differs)."""
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 0)
