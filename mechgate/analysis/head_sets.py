"""What the gates of some heads do alone: effects of head sets on the stance margin, exactly and by adding up heads.

Faithfulness is asked both ways, as in circuit analysis (Wang et al., arXiv 2211.00593): how much of the whole gate set's
effect is left when only a set's gates are on (it suffices), and when they alone are off (it is needed).
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mechgate.data.pairs import Pair
from mechgate.errors import InputError, check_choice
from mechgate.gates.gateset import GateSet
from mechgate.gates.subsets import Head, gated_heads, keep_heads
from mechgate.measure.margins import BATCH_SIZE, batch_margins, stance_rows
from mechgate.model.prompts import collate, length_buckets
from mechgate.progress import track
from mechgate.seeding import rng

WITHIN = ("layers", "all")
"""Where random sets may differ from a set: in its layers only, or anywhere."""


class SetEffects:
    """Effects of head sets on the stance margins of `pairs`, at one strength; called with more sets, it measures these alone.

    The pairs are tokenised and the base is run once, and every set is measured once. Margins are means over `answers`
    (default: the shipped ones). Raises `InputError` for no pairs, no answers, and as `gates.subsets.gated_heads`.
    """

    def __init__(
        self,
        model: Any,
        gates: GateSet,
        pairs: Sequence[Pair],
        answers: Sequence[tuple[str, str]] | None = None,
        *,
        strength: float,
        batch_size: int = BATCH_SIZE,
    ):
        gated_heads(gates)
        self.model, self.gates, self.strength = model, gates, strength
        rows = stance_rows(model, pairs, answers)
        device = next(model.original_model.parameters()).device
        buckets = length_buckets(list(map(len, rows)), batch_size)
        self._n, self._batches = len(rows), [(i, collate([rows[k] for k in i], device)) for i in buckets]
        self._base = self._measured()
        self._known: dict[frozenset[Head], NDArray[np.float64]] = {frozenset(): np.zeros(len(rows))}

    def __call__(self, sets: Sequence[Iterable[Head]], label: str | None = "head sets") -> NDArray[np.float64]:
        """Change of each pair's margin when only a set's gates are on: [n_sets, n_pairs], nats. The empty set changes nothing.

        Raises `InputError` for no sets and for heads without gates.
        """
        chosen = [frozenset(one) for one in sets]
        if not chosen:
            raise InputError("there is nothing to measure", got="no head sets")
        for one in track([one for one in dict.fromkeys(chosen) if one not in self._known], label):
            with keep_heads(self.gates, one).attached(self.model, self.strength):
                self._known[one] = self._measured() - self._base
        return np.stack([self._known[one] for one in chosen])

    def _measured(self) -> NDArray[np.float64]:
        found = np.empty(self._n)
        with torch.inference_mode():
            for indices, batch in self._batches:
                found[indices] = batch_margins(self.model, batch).double().cpu().numpy()
        return found


def complement(gates: GateSet, heads: Iterable[Head]) -> list[Head]:
    """All gated heads but these."""
    out = set(heads)
    return [head for head in gated_heads(gates) if head not in out]


def ordered(gates: GateSet, values: ArrayLike) -> list[Head]:
    """Gated heads by falling `values` [n_layers of gates, n_heads], ties in the heads' own order. Raises `InputError` for
    another shape and values that are not finite."""
    array, heads = np.asarray(values, dtype=np.float64), gated_heads(gates)
    if array.shape != (len(gates.layers), gates.shape.n_heads) or not np.isfinite(array).all():
        raise InputError("heads are ordered by one finite number each", got=array.shape)
    return [heads[i] for i in np.argsort(-array, axis=None, kind="stable")]


def added_up(gates: GateSet, contributions: ArrayLike, sets: Sequence[Iterable[Head]]) -> NDArray[np.float64]:
    """The screen of `SetEffects`: sums over each set of single heads' `contributions` [n_layers of gates, n_heads]: [n_sets].

    It knows nothing of how heads work together; how far to trust it is its correlation with exact effects of some sets.
    Raises as `ordered`.
    """
    place = {head: i for i, head in enumerate(gated_heads(gates))}
    ordered(gates, contributions)
    values = np.asarray(contributions, dtype=np.float64).ravel()
    return np.array([values[[place[head] for head in one]].sum() for one in sets])


def random_sets(
    heads: Sequence[Head], among: Sequence[Head], *, within: str, seed: int, draws: int
) -> list[list[Head]]:
    """Sets of as many heads of `among` as `heads` has: what a minimal set must beat.

    `within` "layers" draws as many in each layer as `heads` has there, so that what layers alone do is no merit; where heads
    fill their layers, such sets hardly differ. "all" draws from all layers alike. Raises `InputError` for another `within`.
    """
    check_choice("within", within, WITHIN)
    stream, groups = rng(seed, "random head sets", within), [list(among)]
    if within == "layers":
        groups = [[head for head in among if head[0] == layer] for layer in sorted({layer for layer, _ in heads})]
    sizes = [len(set(group) & set(heads)) for group in groups]
    return [
        [
            group[i]
            for group, k in zip(groups, sizes, strict=True)
            for i in sorted(stream.choice(len(group), k, replace=False).tolist())
        ]
        for _ in range(draws)
    ]


def sizes_of(n: int) -> list[int]:
    """1, 2, 4, ... and `n`: the sizes of head sets at which a curve is measured. A power of two close to `n` is left out."""
    return [*(2**k for k in range(n.bit_length()) if 1.4 * 2**k < n), n]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smallest:
    """The fewest first heads of an order that keep enough: `heads`, the `share` they keep, and every size that was `tried`,
    with its share."""

    heads: tuple[Head, ...]
    share: float
    tried: dict[int, float]


def smallest_set(order: Sequence[Head], kept: Callable[[int], float], *, share: float = 0.9) -> Smallest | None:
    """The first heads of `order` that keep `share` of the effect; `kept(k)` is the share that its first k heads keep.

    `sizes_of` are tried until one suffices, then the sizes between it and the one before are halved. Where the curve is not
    monotonic this is a size that suffices while the one before it does not, not surely the least. None where no tried size
    suffices.
    """
    tried: dict[int, float] = {}
    low, high = 0, 0
    for k in sizes_of(len(order)):
        tried[k] = kept(k)
        if tried[k] >= share:
            high = k
            break
        low = k
    if not high:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = kept(middle)
        low, high = (low, middle) if tried[middle] >= share else (middle, high)
    return Smallest(heads=tuple(order[:high]), share=tried[high], tried=dict(sorted(tried.items())))
