"""Do gates target the heads that carry the behaviour? Agreement of a map of gates with a map of causal effects.

Heads of the same layer are alike in much that has nothing to do with the behaviour (late layers write more), so null maps
permute heads within their layer, and over all heads beside it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.overlap import rank_biased_overlap
from mechgate.stats.permutation import p_from_null

TOP = (5, 10, 20)
WITHIN = ("layers", "all")


def targeting(
    gate_map: ArrayLike, causal_map: ArrayLike, *, top: Sequence[int] = TOP, seed: int = 0, draws: int = 10_000
) -> dict[str, Any]:
    """How far the heads that gates act on most are those that carry most, by size: maps [n_layers, n_heads].

    `spearman`: rank correlation. For each k of `top`: `auroc`, the chance that a head of the k most causal ones has a
    larger gate value than another head, and `precision`, how many of the k most gated heads are among them.
    `overlap`: rank-biased overlap (persistence .9). Each with its value and two p-values (greater; (b + 1) / (draws + 1)): heads
    permuted within layers and over all. Raises `InputError` for maps of different shapes, without variation or not finite, and for
    a k that leaves no other head.
    """
    gates, causal = (np.abs(np.asarray(one, dtype=np.float64)) for one in (gate_map, causal_map))
    if gates.shape != causal.shape or gates.ndim != 2 or not np.isfinite([gates, causal]).all():
        raise InputError("maps are finite numbers of layers x heads", got=f"{gates.shape} and {causal.shape}")
    if not (np.ptp(gates) > 0 and np.ptp(causal) > 0):
        raise InputError("a map without variation targets nothing", got="all heads alike")
    if wrong := [k for k in top if not 1 <= k < gates.size]:
        raise InputError("as many top heads cannot be told from others", got=wrong, allowed=f"1 to {gates.size - 1}")
    value = _statistics(gates, causal, top)
    null: dict[str, list[dict[str, float]]] = {}
    for within in WITHIN:
        stream = rng(seed, "targeting", within)
        null[within] = [_statistics(_permuted(gates, within, stream), causal, top) for _ in range(draws)]
    return {
        name: {
            "value": found,
            "expected": float(np.mean([one[name] for one in null["layers"]])),
            **{
                f"p, {within}": p_from_null(found, np.array([one[name] for one in null[within]]), alternative="greater")
                for within in WITHIN
            },
        }
        for name, found in value.items()
    }


def random_sets(
    heads: Sequence[tuple[int, int]], n_heads: int, *, seed: int, draws: int
) -> list[list[tuple[int, int]]]:
    """Sets of as many heads, with as many in each layer as `heads` ((layer, head) each) has: what a minimal set must beat."""
    profile: dict[int, int] = {}
    for layer, _ in heads:
        profile[layer] = profile.get(layer, 0) + 1
    stream = rng(seed, "random head sets")
    return [
        [
            (layer, int(head))
            for layer, k in sorted(profile.items())
            for head in stream.choice(n_heads, k, replace=False)
        ]
        for _ in range(draws)
    ]


def smallest_set(
    order: Sequence[tuple[int, int]], kept: ArrayLike, whole: float, *, share: float = 0.9
) -> tuple[list[tuple[int, int]], float] | None:
    """The fewest first heads of `order` that keep `share` of the effect `whole`, and the share they keep.

    `kept` [len(order)] is the effect with the first 1, 2, ... heads alone. None where no prefix keeps that much. Raises
    `InputError` for an effect of 0 and curves of another length.
    """
    curve = np.asarray(kept, dtype=np.float64)
    if whole == 0 or curve.shape != (len(order),):
        raise InputError(
            "shares of an effect need the effect, and a value for each head", got=f"{whole}, {curve.shape}"
        )
    enough = np.flatnonzero(curve / whole >= share)
    return None if not len(enough) else (list(order[: enough[0] + 1]), float(curve[enough[0]] / whole))


def _statistics(gates: NDArray[np.float64], causal: NDArray[np.float64], top: Sequence[int]) -> dict[str, float]:
    a, b = gates.ravel(), causal.ravel()
    order_a, order_b = np.argsort(-a, kind="stable"), np.argsort(-b, kind="stable")
    ranks = rankdata(a)
    found = {
        "spearman": float(np.corrcoef(ranks, rankdata(b))[0, 1]),
        "overlap": rank_biased_overlap(a, b, persistence=0.9),
    }
    for k in top:
        carriers = np.zeros(len(b), dtype=bool)
        carriers[order_b[:k]] = True
        # The rank sum of Mann and Whitney; scikit-learn's function takes as long as all the rest together.
        found[f"auroc, {k}"] = float((ranks[carriers].sum() - k * (k + 1) / 2) / (k * (len(b) - k)))
        found[f"precision, {k}"] = float(carriers[order_a[:k]].mean())
    return found


def _permuted(gates: NDArray[np.float64], within: str, stream: np.random.Generator) -> NDArray[np.float64]:
    if within == "layers":
        return stream.permuted(gates, axis=1)
    return stream.permutation(gates.ravel()).reshape(gates.shape)
