"""Whole verdicts in worlds whose truth is known, by the functions that the referee itself uses."""

from typing import Any

import numpy as np
import pandas as pd

from mechgate.calibration.worlds import STRENGTH, Components, Design, World, draw
from mechgate.referee.contexts import DECIDED
from mechgate.referee.evidence import weigh
from mechgate.referee.summary import axis_at, discrimination, interaction
from mechgate.seeding import rng, stream_seed
from mechgate.stats.estimates import Estimate, bootstrap_mean
from mechgate.stats.selectivity import judge

DRAWS = 1_000
"""Of each bootstrap and of sign flips: a tenth of the referee's, which moves an interval's ends by little."""
WEIGHED = ("p, rank", "p, perplexity", "p, four-choice", "beaten")
COVERED = ("E", "A", "sigma", "E - A", "base", "probe")


def simulate(world: World, components: Components, design: Design, *, seed: int, draws: int = DRAWS) -> dict[str, Any]:
    """One verdict in a world: its `outcome`, p-values, and whether each interval covers the truth (1, 0, or None where
    there is no interval).

    `p, interaction`: sign flips over facts of E - A. `p, rank`: rank of the separation among control sets. `p, perplexity`
    and `p, four-choice`: TOST. `beaten`: how many of the control tasks the separation was shown to exceed. The last four are None where the axis
    decides.
    """
    tables = draw(world, components, design, rng(seed, "world", world.name))
    inner = stream_seed(seed, "inference", world.name)
    options: dict[str, Any] = dict(seed=inner, draws=draws)
    found = axis_at(tables.rows, tables.start, STRENGTH, **options)
    apart = interaction(tables.rows, tables.start, STRENGTH, **options)
    told = discrimination(tables.start, **options)
    probe = bootstrap_mean(tables.probe - 0.5, np.arange(len(tables.probe)), **options)
    chance: dict[str, Any] = {"discrimination": told, "probe": probe}
    verdict = judge(found, spared={}, nulls={}, controls={}, **chance)
    weighed: dict[str, Any] = dict.fromkeys(WEIGHED)
    if world.weighed or verdict.outcome not in DECIDED:  # as the referee does in hosts: nothing else can change these
        parts = tables.learned, tables.dosed, tables.start, tables.able, tables.neutral
        evidence = weigh(*parts, strength=STRENGTH, **options)
        verdict = judge(found, **evidence.to_judge(), **chance)
        spared = {**evidence.spared.tests, **evidence.spared.underpowered}
        beaten = [one["estimate"].low > 0 for one in evidence.contrasts["controls"].values()]
        rank = evidence.numbers["rank"]["separation"]["p"]
        tests = (spared["perplexity, chat"].p, spared["four-choice margin"].p)
        weighed = dict(zip(WEIGHED, (rank, *tests, sum(beaten)), strict=True))
    e, a = world.effect, world.side_effect
    intervals: dict[str, tuple[Estimate | None, float]] = {
        "E": (found.effect, e),
        "A": (found.side_effect, a),
        "sigma": (found.sigma, world.sigma),
        "E - A": (apart, e - a),
        "base": (told, world.tells[0]),
        "probe": (probe, world.tells[1]),
    }
    return {
        "outcome": verdict.outcome,
        "p, interaction": apart.p,
        **weighed,
        **{f"covers, {name}": _covers(*both) for name, both in intervals.items()},
    }


def simulations(
    world: World, components: Components, design: Design, *, n: int, seed: int, first: int = 0, draws: int = DRAWS
) -> pd.DataFrame:
    """`simulate` `n` times with independent draws, from number `first` on: a row a simulation."""
    one = [
        simulate(world, components, design, seed=stream_seed(seed, "simulation", i), draws=draws)
        for i in range(first, first + n)
    ]
    return pd.DataFrame(one)


def _covers(estimate: Estimate | None, truth: float) -> float | None:
    return None if estimate is None else float(estimate.low <= truth <= estimate.high)
