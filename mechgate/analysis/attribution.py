"""Gate attribution: how much of a change of the stance margin each gate unit makes, and what any other gate would make.

z * (1 + m * (g - 1)) with one multiplier m a prompt, layer and unit: the derivative of a prompt's margin with respect
to m, taken where all m = 0, is what the unit contributes to first order. There it is a sum over tokens of
(d margin / d z) * z * (g - 1), in which the first two factors know nothing of the gate. They are kept (`Screen`), so
that one backward pass serves every gate and every null: a sign flip flips its unit's contribution, a permutation pairs
one unit's slope with another's g - 1, and gates that share nothing with the learned ones cost one product a layer.

The accurate variant integrates along strength (Gauss-Legendre), the gates in the graph: what an earlier layer's gate
does to a later one's input counts (integrated gradients, Sundararajan et al. 2017). Its units add up to the true change.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.donor import DonorGateSet
from mechgate.gates.gate import check_strength, n_units
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import batch_margins, stance_rows
from mechgate.model import hooking
from mechgate.model.prompts import Row, collate, length_buckets
from mechgate.model.scoring import without_unread
from mechgate.model.sites import Shape, all_sites, shape_of
from mechgate.progress import track

BATCH_SIZE = 8
NODES = 4


@dataclass(frozen=True, kw_only=True)
class Screen:
    """One backward pass over `n_prompts` prompts, kept token by token for every layer of `layers`.

    `slope` and `inputs` hold, by layer, (d margin / d z) * z [n_tokens, d_z] and the gate's input x [n_tokens,
    d_model], both fp32 and without padding; `owner` and `position` [n_tokens] are the prompt each token belongs to and
    its position there (an answer's first token follows the prompt's last). 96 prompts of the
    default model take 1.3 GB.
    """

    shape: Shape
    layers: tuple[int, ...]
    n_prompts: int
    slope: dict[int, torch.Tensor]
    inputs: dict[int, torch.Tensor]
    owner: torch.Tensor
    position: torch.Tensor

    def units(self, gates: GateSet) -> np.ndarray:
        """First-order contribution of each unit at strength +1: [n_prompts, n_layers of gates, units], nats.

        Raises `InputError` for gates of another shape, or on layers that were not kept.
        """
        self._check(gates)
        size = n_units(self.shape, gates.granularity)
        found = np.zeros((self.n_prompts, len(gates.layers), size))
        for k, layer in enumerate(gates.layers):
            products = self.slope[layer] * self._delta(gates, layer)
            found[:, k] = self._by_prompt(products.unflatten(1, (size, -1)).sum(-1))
        return found

    def effects(self, gates: GateSet) -> np.ndarray:
        """First-order change of each prompt's margin from strength 0 to +1: [n_prompts], nats."""
        return self.units(gates).sum(axis=(1, 2))

    def heads(self, gates: GateSet) -> np.ndarray:
        """What head i would contribute with the gate values of head j of its layer: [n_prompts, n_layers, i, j], nats.

        The diagonal is what the heads do contribute. For gates with a value a z element or a head.
        """
        slopes, deltas = self._by_head(gates)
        n = self.shape.n_heads
        found = np.zeros((self.n_prompts, len(gates.layers), n, n))
        for k, layer in enumerate(gates.layers):
            for i in range(n):
                found[:, k, i] = self._by_prompt(torch.einsum("td,tjd->tj", slopes(layer)[:, i], deltas(layer)))
        return found

    def dimensions(self, gates: GateSet) -> np.ndarray:
        """What dimension d of a head would contribute with the gate values of its dimension e, mean over prompts:
        [n_layers, n_heads, d, e], nats. For gates with a value a z element."""
        slopes, deltas = self._by_head(gates)
        tables = [torch.einsum("thd,the->hde", slopes(layer), deltas(layer)) for layer in gates.layers]
        return torch.stack(tables).double().cpu().numpy() / self.n_prompts

    def only(self, prompts: Sequence[int]) -> "Screen":
        """The same of some of its prompts, numbered anew in the order given; raises `InputError` for none, one named
        twice or one that is not there."""
        order = list(prompts)
        if not order or len(set(order)) < len(order) or not set(order) <= set(range(self.n_prompts)):
            raise InputError(
                "those are not prompts of the screen",
                got=order,
                allowed=f"some of 0 to {self.n_prompts - 1}, each once",
            )
        number = torch.full((self.n_prompts,), -1, device=self.owner.device)
        number[order] = torch.arange(len(order), device=self.owner.device)
        owner = number[self.owner]
        kept = owner >= 0
        return dataclasses.replace(
            self,
            n_prompts=len(order),
            slope={layer: values[kept] for layer, values in self.slope.items()},
            inputs={layer: values[kept] for layer, values in self.inputs.items()},
            owner=owner[kept],
            position=self.position[kept],
        )

    def _delta(self, gates: GateSet, layer: int) -> torch.Tensor:
        """scale * (g - 1), a value a z element: [n_tokens, d_z]."""
        where = gates.at(self.position) if isinstance(gates, DonorGateSet) else contextlib.nullcontext()
        with torch.inference_mode(), where:
            delta = gates.gate(layer).delta(self.inputs[layer]) * gates.scale
        return delta.repeat_interleave(self.shape.d_z // delta.shape[1], dim=1)

    def _by_head(self, gates: GateSet) -> tuple[Callable[[int], torch.Tensor], Callable[[int], torch.Tensor]]:
        self._check(gates)
        if gates.granularity == "layer":
            raise InputError("gates with one value a layer have no heads to exchange", got=repr(gates))
        size = (self.shape.n_heads, self.shape.d_head)
        return lambda n: self.slope[n].unflatten(1, size), lambda n: self._delta(gates, n).unflatten(1, size)

    def _by_prompt(self, values: torch.Tensor) -> np.ndarray:
        sums = torch.zeros(self.n_prompts, values.shape[1], dtype=torch.float64, device=values.device)
        return sums.index_add_(0, self.owner, values.double()).cpu().numpy()

    def _check(self, gates: GateSet) -> None:
        if differences := gates.shape.differences(self.shape):
            raise InputError("the gates are of another shape than the screened model", got="; ".join(differences))
        if lost := sorted(set(gates.layers) - set(self.layers)):
            raise InputError("the gates act on layers that were not kept", got=lost, allowed=list(self.layers))


def screen(
    model: Any,
    pairs: Sequence[Pair],
    answers: Sequence[tuple[str, str]] | None = None,
    *,
    layers: list[int] | None = None,
    batch_size: int = BATCH_SIZE,
    label: str | None = "gradients",
) -> Screen:
    """One gradient pass over the stance margins of `pairs` (mean over `answers`, as in `stance_margins`), without gates.

    Gates attached around the call are part of the model. Raises `InputError` for no pairs, no answers or no such layer.
    """
    sites = all_sites(model, layers)
    rows = stance_rows(model, pairs, answers)
    kept: dict[str, dict[int, list[torch.Tensor]]] = {"slope": {}, "inputs": {}}
    owner: list[torch.Tensor] = []
    position: list[torch.Tensor] = []
    for indices, batch in _batches(model, rows, batch_size, label):
        run = without_unread(batch)[0]
        real = run.mask
        x: dict[int, torch.Tensor] = {}
        z: dict[int, torch.Tensor] = {}
        probes: dict[int, torch.Tensor] = {}

        def keep(value: torch.Tensor, layer: int, x: dict[int, torch.Tensor]) -> None:
            x[layer] = value.detach()

        def probe(
            value: torch.Tensor, layer: int, z: dict[int, torch.Tensor], probes: dict[int, torch.Tensor]
        ) -> torch.Tensor:
            z[layer] = value.detach()
            probes[layer] = torch.zeros_like(value, requires_grad=True)
            return value + probes[layer]

        hooks: dict[str, hooking.Hook] = {}
        for s in sites:
            hooks[s.read] = lambda v, n=s.layer, x=x: keep(v, n, x)
            hooks[s.write] = lambda v, n=s.layer, z=z, p=probes: probe(v, n, z, p)
        with hooking.attached(model, hooks), torch.enable_grad():
            total = batch_margins(model, batch).sum()
        gradients = torch.autograd.grad(total, [probes[s.layer] for s in sites])
        for s, gradient in zip(sites, gradients, strict=True):
            slope = (gradient.float() * z[s.layer].float()).flatten(2)
            kept["slope"].setdefault(s.layer, []).append(slope[real])
            kept["inputs"].setdefault(s.layer, []).append(x[s.layer][real].float())
        owner.append(torch.tensor(indices, device=real.device)[real.nonzero()[:, 0]])
        position.append(run.positions[real])
    return Screen(
        shape=shape_of(model),
        layers=tuple(s.layer for s in sites),
        n_prompts=len(rows),
        slope={n: torch.cat(parts) for n, parts in kept["slope"].items()},
        inputs={n: torch.cat(parts) for n, parts in kept["inputs"].items()},
        owner=torch.cat(owner),
        position=torch.cat(position),
    )


def integrated_attribution(
    model: Any,
    gates: GateSet,
    pairs: Sequence[Pair],
    answers: Sequence[tuple[str, str]] | None = None,
    *,
    strength: float = 1.0,
    nodes: int = NODES,
    batch_size: int = BATCH_SIZE,
    label: str | None = "integrated gradients",
) -> np.ndarray:
    """Contribution of each unit to the change of the stance margin from strength 0 to `strength`, integrated along it.

    [n_pairs, n_layers of gates, units], nats; summed over layers and units it is the true change, up to the error of
    `nodes`-point Gauss-Legendre integration. Raises what `screen` raises, and `InputError` for fewer than one node.
    """
    if type(nodes) is not int or nodes < 1:
        raise InputError("integration needs at least one node", got=nodes)
    gates.check_fits(model)
    end = check_strength(strength) * gates.scale
    points, weights = np.polynomial.legendre.leggauss(nodes)
    rows = stance_rows(model, pairs, answers)
    size = n_units(gates.shape, gates.granularity)
    found = np.zeros((len(rows), len(gates.layers), size))
    for indices, batch in _batches(model, rows, batch_size, label):
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            multipliers = {
                n: torch.full((len(indices), 1, size), end * point, device=batch.tokens.device, requires_grad=True)
                for n in gates.layers
            }
            with hooking.attached(model, _multiplied(gates, multipliers)), torch.enable_grad():
                total = batch_margins(model, batch).sum()
            slopes = torch.autograd.grad(total, list(multipliers.values()))
            part = torch.stack([s[:, 0] for s in slopes], dim=1).double().cpu().numpy()
            found[indices] += end * weight * part
    return found


def _multiplied(gates: GateSet, multipliers: dict[int, torch.Tensor]) -> dict[str, hooking.Hook]:
    hooks: dict[str, hooking.Hook] = {}
    for site in gates.sites:
        kept: list[torch.Tensor] = []

        def scale(z: torch.Tensor, n: int = site.layer, kept: list[torch.Tensor] = kept) -> torch.Tensor:
            change = multipliers[n] * gates.gate(n).delta(kept.pop())
            change = change.repeat_interleave(z.shape[2] * z.shape[3] // change.shape[-1], dim=-1)
            return z + z * change.unflatten(-1, z.shape[2:]).to(z.dtype)

        hooks[site.read], hooks[site.write] = kept.append, scale
    return hooks


def _batches(model: Any, rows: list[Row], batch_size: int, label: str | None) -> Any:
    """Batches that share no prefix: a shared token's gradient would be the sum over prompts."""
    device = next(model.original_model.parameters()).device
    for indices in track(length_buckets(list(map(len, rows)), batch_size), label):
        yield indices, dataclasses.replace(collate([rows[i] for i in indices], device), prefix=0)
