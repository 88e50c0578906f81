"""Patches between two models of one shape: a head's result z W_O[h], each under its own model's weights, is what moves.

Where the two differ in W_O, z alone does not say what a head writes. Zero difference is exactly no patch, so that what a
model has unchanged in a head cannot be credited to it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mechgate.errors import InputError
from mechgate.measure.patch_screen import gradient
from mechgate.measure.patching import Metric, Prompt, number, token_ids
from mechgate.model import hooking
from mechgate.model.resume import Resumable
from mechgate.model.scoring import logits_of
from mechgate.model.sites import output_projection, shape_of


class ResultPatches:
    """`source`'s results against `model`'s own: `maps` gives the patches' effects on a prompt, `restored` the logits with some
    heads' results replaced. W_O of both is kept. Raises `InputError` for models of different shapes."""

    def __init__(self, model: Any, source: Any):
        if differences := shape_of(model).differences(shape_of(source)):
            raise InputError("the two models differ in shape", got="; ".join(differences))
        self.model, self.source = model, source
        layers = range(shape_of(model).n_layers)
        self._own, self._other = ({k: output_projection(one, k) for k in layers} for one in (model, source))

    def maps(self, prompt: Prompt, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """What putting `source`'s result of one head into the run changes in the metric: exact, and to first order, both fp64
        [n_layers, n_heads]. `metric` gets the last position's logits and must be differentiable."""
        ids = token_ids(self.model, prompt)
        run, other = Resumable(self.model, ids), Resumable(self.source, ids)
        shape = shape_of(self.model)
        own = number(metric(logits_of(self.model, run.hidden[None, -1:])))
        exact, first = np.zeros((2, shape.n_layers, shape.n_heads))
        nothing = torch.zeros(shape.n_layers, len(ids), shape.d_model)
        slope = gradient(run, nothing, metric, 1, "attn.hook_out").double()
        with run.attached():
            for layer in range(shape.n_layers):
                step = self._step(layer, run.z[layer], other.z[layer])  # [heads, tail, d_model]
                first[layer] = (step * slope[layer]).sum(dim=(1, 2)).numpy()

                def put(out: torch.Tensor, step: torch.Tensor = step) -> torch.Tensor:
                    return (out.double() + step).to(out)

                hidden = run.run(layer, shape.n_heads, {f"blocks.{layer}.attn.hook_out": put})
                each = logits_of(self.model, hidden[:, -1:])
                exact[layer] = [number(metric(each[h : h + 1])) - own for h in range(shape.n_heads)]
                exact[layer] *= (
                    step.abs().amax(dim=(1, 2)).numpy() > 0
                )  # no step, no effect: not the rounding of another batch
        return exact, first

    def restored(self, ids: Prompt, heads: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Logits [pos, vocabulary] of `model` with the results of `heads` replaced by `source`'s, layer after layer in one run."""
        tokens = token_ids(self.model, ids)
        other = Resumable(self.source, tokens)
        run = Resumable(self.model, tokens)
        z: dict[int, torch.Tensor] = {}
        hooks: dict[str, hooking.Hook] = {}
        for layer in {k for k, _ in heads}:
            which = [h for k, h in heads if k == layer]
            if torch.equal(self._own[layer], self._other[layer]):  # then z is enough, and nothing is rounded

                def replace(value: torch.Tensor, layer: int = layer, which: list[int] = which) -> torch.Tensor:
                    return value.index_copy(2, torch.tensor(which), other.z[layer][None, :, which].to(value))

                hooks[f"blocks.{layer}.attn.hook_z"] = replace
                continue

            def put(out: torch.Tensor, layer: int = layer, which: list[int] = which) -> torch.Tensor:
                step = self._step(layer, z.pop(layer)[0], other.z[layer])[which].sum(dim=0)
                return (out.double() + step).to(out)

            hooks[f"blocks.{layer}.attn.hook_z"] = lambda value, layer=layer: z.update({layer: value})
            hooks[f"blocks.{layer}.attn.hook_out"] = put
        with torch.inference_mode(), hooking.attached(self.model, hooks):
            return logits_of(self.model, run.forward(1)[0])

    def _step(self, layer: int, z: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Source's minus own result of each head: fp64 [heads, tail, d_model], so that rounding is one of the sum alone."""
        results = []
        for values, w_o in ((other, self._other[layer]), (z, self._own[layer])):
            heads = w_o.double().unflatten(0, values.shape[-2:])
            results.append(torch.einsum("the,hed->htd", values.double(), heads))
        return results[0] - results[1]
