"""Attribution patching: what every head's patch would do, to first order, from one backward pass; and integrated along the way.

A screen for `measure.patching`: its agreement with exact patches is to be printed beside whatever it draws
(arXiv 2310.10348; integrated gradients: arXiv 1703.01365, here with the z of all heads on the way at once).
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr

from mechgate.errors import InputError
from mechgate.measure.patching import Metric, Prompt, shared_start, token_ids
from mechgate.model import hooking
from mechgate.model.resume import Attached, Resumable
from mechgate.model.scoring import logits_of


def attribute_heads(
    model: Any,
    clean: Prompt,
    corrupted: Prompt,
    metric: Metric,
    *,
    source: Any = None,
    during: Attached = nullcontext,
    nodes: int = 1,
    logits: int = 1,
) -> np.ndarray:
    """An estimate of how much each head's patch changes the metric of the corrupted run: fp64 [n_layers, n_heads].

    The gradient of the metric with respect to z, times clean minus corrupted z, summed over a head's elements and tokens.
    With one node the gradient is the corrupted run's; with more it is the mean over Gauss-Legendre nodes on the way to the
    clean z, of all heads at once. `metric` must be differentiable. Arguments and errors as for `patch_heads`.
    """
    if nodes < 1:
        raise InputError("the gradient is taken at one node at least", got=nodes)
    first, second = token_ids(model, clean), token_ids(model, corrupted)
    prefix = shared_start(first, second, logits, alike=source is None and during is nullcontext)
    values = Resumable(model if source is None else source, first, prefix=prefix).z
    run = Resumable(model, second, prefix=prefix, during=during)
    step = values.float() - run.z.float()
    places, weights = np.polynomial.legendre.leggauss(nodes)
    places = (places + 1) / 2 if nodes > 1 else np.zeros(1)
    total = torch.zeros_like(step)
    for place, weight in zip(places, weights / 2, strict=True):
        total += float(weight) * _gradient(run, float(place) * step, metric, logits)
    return (total * step).sum(dim=(1, 3)).double().cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a screen's map agrees with exact patches: Pearson's and Spearman's correlation over `n` heads."""

    pearson: float
    spearman: float
    n: int


def agreement(screened: np.ndarray, exact: np.ndarray) -> Agreement:
    """Correlations of two maps over all heads. Raises `InputError` for maps of different shapes or without variation."""
    if screened.shape != exact.shape or screened.size < 3 or not (np.ptp(screened) > 0 and np.ptp(exact) > 0):
        raise InputError("maps cannot be compared", got=f"{screened.shape} and {exact.shape}, or one without variation")
    a, b = screened.ravel(), exact.ravel()
    both: list[Any] = [pearsonr(a, b), spearmanr(a, b)]
    return Agreement(pearson=float(both[0][0]), spearman=float(both[1][0]), n=a.size)


def _gradient(run: Resumable, added: torch.Tensor, metric: Metric, logits: int) -> torch.Tensor:
    """The metric's gradient with respect to z, with `added` [n_layers, tail, n_heads, d_head] put on z: the same shape, fp32."""
    extra = added.clone().requires_grad_(True)
    hooks: dict[str, hooking.Hook] = {
        f"blocks.{k}.attn.hook_z": lambda z, k=k: z + extra[k].to(z.dtype) for k in range(len(extra))
    }
    with run.during(), hooking.attached(run.model, hooks), torch.enable_grad():
        hidden = run.forward(1)
        value = metric(logits_of(run.model, hidden[:, hidden.shape[1] - logits :]))
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            raise InputError(
                "the metric must be differentiable", got=type(value).__name__, do="return a tensor made of the logits"
            )
        value.sum().backward()
    return torch.zeros_like(added) if extra.grad is None else extra.grad.detach()
