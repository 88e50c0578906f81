"""Which latents of an SAE does a change move, and which tell unsafe from safe prompts? Chosen on half, confirmed on half."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ttest_1samp

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.multiplicity import benjamini_hochberg
from mechgate.stats.overlap import Overlap, by_cluster, jaccard, overlap_test, rank_biased_overlap, span_overlap
from mechgate.stats.permutation import sign_flip_p

LEAST_FACTS = 8
STATISTICS = ("jaccard", "rank-biased overlap", "span overlap")


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Latents that differ: `chosen` [n_latents] bool, those of Benjamini-Hochberg's q on one half of the facts that the
    other half confirms; `effect` [n_latents], the mean difference over all facts, and `t`, that over its standard error (0
    where nothing differs); `screened`, how many the first half gave; `facts`."""

    chosen: NDArray[np.bool_]
    effect: NDArray[np.float64]
    t: NDArray[np.float64]
    screened: int
    facts: int


def chosen_latents(differences: ArrayLike, *, seed: int, q: float = 0.05) -> Chosen:
    """Latents whose difference [n_facts, n_latents] (one row a fact) is not 0.

    On a random half of the facts a t-test a latent, at false discovery rate `q`; of these stay those with the same sign
    and p <= .05 (sign flips) on the other half. Latents without any difference are never chosen. Raises `InputError` for fewer than 8
    facts and for differences that are not finite.
    """
    matrix = np.asarray(differences, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) < LEAST_FACTS or not np.isfinite(matrix).all():
        raise InputError(
            "differences are finite numbers of facts x latents",
            got=matrix.shape,
            allowed=f"at least {LEAST_FACTS} facts",
        )
    order = rng(seed, "latents", "halves").permutation(len(matrix))
    first, second = matrix[order[: len(matrix) // 2]], matrix[order[len(matrix) // 2 :]]
    varies = np.ptp(first, axis=0) > 0
    p = np.ones(matrix.shape[1])
    if varies.any():
        tested: Any = ttest_1samp(first[:, varies], 0.0, axis=0)
        p[varies] = tested.pvalue
    screened = np.flatnonzero(benjamini_hochberg(p, q)[0])
    chosen = np.zeros(matrix.shape[1], dtype=bool)
    for k in screened:
        same = np.sign(first[:, k].mean()) == np.sign(second[:, k].mean())
        chosen[k] = same and sign_flip_p(second[:, k], seed=seed) <= 0.05
    effect, error = matrix.mean(axis=0), matrix.std(axis=0, ddof=1) / len(matrix) ** 0.5
    t = np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)
    return Chosen(chosen=chosen, effect=effect, t=t, screened=len(screened), facts=len(matrix))


def overlaps(
    moved: Chosen,
    marked: Chosen,
    decoder: NDArray,
    clusters: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    seed: int,
    draws: int = 10_000,
) -> dict[str, Overlap | None]:
    """Three statistics of how far the latents that a change moved are those that mark unsafe prompts, over clusters.

    `clusters` gives each latent's cluster (`stats.overlap.alike`), `groups` each cluster's stratum. jaccard: of the two
    sets; rank-biased overlap: of the sizes of all t (not of effects: these follow the activations' own sizes, so that any
    dampener would seem to share them); span overlap: of the sets' directions. None where a set is empty.
    """
    decoders = np.array([decoder[clusters == k].mean(axis=0) for k in np.unique(clusters)])
    a, b = (by_cluster(one.chosen, clusters) for one in (moved, marked))
    sizes = [np.abs(by_cluster(one.t, clusters, how="largest")) for one in (moved, marked)]
    options: Any = dict(seed=seed, draws=draws)
    found: dict[str, Overlap | None] = dict.fromkeys(STATISTICS)
    if all(size.any() for size in sizes):
        found["rank-biased overlap"] = overlap_test(rank_biased_overlap, sizes[0], sizes[1], groups, **options)
    if a.any() and b.any():
        found["jaccard"] = overlap_test(jaccard, a, b, groups, **options)

        def span(one: NDArray, other: NDArray) -> float:
            return span_overlap(decoders[one], decoders[other])

        found["span overlap"] = overlap_test(span, a, b, groups, seed=seed, draws=min(draws, 999))
    return found


def effect_share(plain: Mapping[str, NDArray], ablated: Mapping[str, NDArray]) -> NDArray[np.float64]:
    """How much of a change's effect goes with some latents, by fact: the effect without ablation minus that with it.

    Both map "base" and "gated" to margins by fact (nats); the effect is gated minus base, each under the same ablation.
    """
    return (plain["gated"] - plain["base"]) - (ablated["gated"] - ablated["base"])
