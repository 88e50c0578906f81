"""Tests of gates with nothing learned in them, on tiny random models, through the functions that real analyses call.

Gates are independent normal numbers, so that turning the sign of a unit, or exchanging heads of a layer, changes nothing in
their distribution: where the test is exact, its p-values are uniform.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mechgate.analysis.atlas import activity_rows, head_activity, maps_of
from mechgate.analysis.attribution import screen
from mechgate.analysis.targeting import targeting
from mechgate.data.pairs import Pair
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import neutral_inputs
from mechgate.gates.nulls import null_gates
from mechgate.measure.activations import activations
from mechgate.measure.margins import stance_margins
from mechgate.measure.patching import patch_heads
from mechgate.model.prompts import collate, encode_response
from mechgate.referee.draws import SIDES, exact_nulls, screened_nulls
from mechgate.seeding import rng, stream_seed
from mechgate.stats.multiplicity import max_t
from mechgate.stats.permutation import FEWEST_NULLS, p_from_null

STRENGTH = -1.0
DRAWS = 99
FACTS = 9
ANSWERS = (("Yes.", "No."), ("True.", "So so."))
WORDS = ("cat", "ice", "rain", "lead", "snow", "fish", "sand", "tea", "wind", "oak", "salt", "moss", "iron", "milk")
TESTS = {
    "row-sign nulls, exact": (True, 1 / (FEWEST_NULLS + 1)),
    "row-sign nulls, first order": (True, 1 / (DRAWS + 1)),
    "cosine with a direction": (True, 1 / (FEWEST_NULLS + 1)),
    "atlas, max-T over heads": (True, 2 / 2**FACTS),
    "targeting, within layers": (True, 1 / (DRAWS + 1)),
    "targeting, over all heads": (False, 1 / (DRAWS + 1)),
}
"""By test: whether it is exact, and the step of its p-values. Heads of different layers read different inputs, so that
permuting them over all layers is not exact."""


def random_gates(model: Any, seed: int) -> GateSet:
    """Element gates on all layers with independent normal W (variance 1 / d_model) and b (variance 1)."""
    gates, stream = GateSet.identity(model), rng(seed, "gates without learning")
    with torch.no_grad():
        for parameter in gates.parameters():
            scale = 1 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.copy_(torch.from_numpy(stream.normal(0, scale, parameter.shape)))
    return gates


def random_pairs(n: int, side: str, stream: np.random.Generator) -> list[Pair]:
    """Pairs about nothing, one a fact."""
    return [
        Pair(
            id=f"{side}/{i}",
            domain="all",
            messages=({"role": "user", "content": f"{' '.join(stream.choice(WORDS, 3))}?"},),
            matching="Yes.",
            not_matching="No.",
            fact_id=f"fact-{i}",
            kind=side,
        )
        for i in range(n)
    ]


def null_p_values(make_model: Callable[[int], Any], *, model_seed: int, n: int, seed: int) -> pd.DataFrame:
    """`n` independent gate sets on the random chat model `make_model(model_seed)`: a row each, a p-value a test of `TESTS`.

    What does not depend on gates is measured once: gates being independent of it and of each other, so are p-values.
    """
    model, start = make_model(model_seed), stream_seed(seed, "model", model_seed)
    stream = rng(start, "prompts")
    sides = {side: random_pairs(2, side, stream) for side in SIDES}
    pairs = [pair for side in SIDES for pair in sides[side]]
    ids = stream.integers(3, 128, (2, 8)).tolist()
    causal = patch_heads(model, ids[0], ids[1], lambda logits: logits[0, -1, 5] - logits[0, -1, 7], label=None)
    options: dict[str, Any] = dict(label=None)
    both = screen(model, pairs, ANSWERS, **options)
    cut = len(sides["wanted"])
    screens = {"wanted": both.only(range(cut)), "unwanted": both.only(range(cut, len(pairs)))}
    neutral = neutral_inputs(model, collate([encode_response(model, " ".join(WORDS))]))
    base = stance_margins(model, sides["wanted"], ANSWERS, **options).mean()
    direction = stream.normal(size=neutral.shape.d_model)
    rows = []
    for i in range(n):
        own = stream_seed(start, "gates", i)
        gates = random_gates(model, own)
        with gates.attached(model, STRENGTH):
            moved = stance_margins(model, sides["wanted"], ANSWERS, **options).mean() - base
        how: dict[str, Any] = dict(strength=STRENGTH, seed=own)
        exact = exact_nulls(
            model, gates, sides, "row-sign", draws=FEWEST_NULLS, neutral=neutral, screened=both, answers=ANSWERS, **how
        )
        first = screened_nulls(screens, gates, "row-sign", draws=DRAWS, group=neutral.group, **how)
        size = head_activity(model, gates, pairs, **options)[..., 0].mean(axis=0)
        aims = targeting(size, causal, top=(2,), seed=own, draws=DRAWS)["spearman"]
        found = {
            "row-sign nulls, exact": p_from_null(moved, exact["wanted"].to_numpy() - base),
            "row-sign nulls, first order": p_from_null(
                STRENGTH * float(screens["wanted"].effects(gates).mean()), first["wanted"].to_numpy()
            ),
            "cosine with a direction": _cosine_p(model, gates, pairs[:2], direction, own),
            "atlas, max-T over heads": _least_p(model, gates, own),
            "targeting, within layers": aims["p, layers"],
            "targeting, over all heads": aims["p, all"],
        }
        rows.append({"model": model_seed, "gates": i, **found})
    return pd.DataFrame(rows)


def _least_p(model: Any, gates: GateSet, seed: int) -> float:
    """The least p of the map of |g - 1| on "false" minus "true" claims, which of the two is which having been tossed."""
    stream = rng(seed, "claims")
    false, true = (random_pairs(FACTS, side, stream) for side in ("false", "true"))
    rows = activity_rows(model, gates, false, true).assign(seed="0")
    maps = maps_of(rows, rows["size false"] - rows["size true"])
    return float(max_t(maps.values.mean(axis=0), seed=seed).p.min())


def _cosine_p(model: Any, gates: GateSet, pairs: Sequence[Pair], direction: np.ndarray, seed: int) -> float:
    """Cosine of a direction with the mean displacement of the last residual stream, against row-sign nulls'."""
    last = [model.cfg.n_layers - 1]

    def mean() -> np.ndarray:
        return activations(model, pairs, layers=last, label=None)[:, 0].mean(axis=0)

    base, cosines = mean(), []
    draws = [null_gates(gates, family="row-sign", seed=stream_seed(seed, "cosine", i)) for i in range(FEWEST_NULLS)]
    for one in (gates, *draws):
        with one.attached(model, STRENGTH):
            moved = mean() - base
        cosines.append(float(moved @ direction / np.linalg.norm(moved) / np.linalg.norm(direction)))
    return p_from_null(cosines[0], cosines[1:])
