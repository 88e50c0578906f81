"""What null gates do to both sides of an axis: exactly, draw by draw; to first order, by the thousand; at equal dose.

The two sides are the claims that gates are wanted to act on and those they should spare. Sign-flip and permutation
nulls ask whether the learned gates act together more than their parts put together at random (coherence: "was
trained"); selectivity is asked with trained controls, through the same `dosed_rows`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechgate.analysis.attribution import Screen
from mechgate.analysis.behaviour import Arm, Material, collect
from mechgate.analysis.dose import MatchedDose, Texts, matched_dose
from mechgate.analysis.screening import screened_flips, screened_permutations
from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs
from mechgate.gates.nulls import FAMILIES, null_gates
from mechgate.measure.margins import stance_margins
from mechgate.progress import track
from mechgate.seeding import stream_seed

SIDES = ("wanted", "unwanted")
FLIPS = ("row-sign", "head-sign", "layer-sign")
PERMUTATIONS = ("head-permutation", "group-permutation", "dimension-permutation")
TABLED = (*FLIPS, *PERMUTATIONS)
"""Families whose nulls are inner products of the learned gates' own contributions."""


class UnmatchedError(InputError):
    """A draw of a null family that makes no sense for the gates, or cannot be matched to them."""


def draw_null(gates: GateSet, family: str, draw: int, *, seed: int, neutral: NeutralInputs) -> GateSet:
    """Draw number `draw` of a family, matched to `gates` on RMS(g - 1). Raises `UnmatchedError` where that cannot be."""
    # Moving a layer's units about, or their signs, keeps RMS(g - 1): there is nothing to match.
    batch = None if family in TABLED and family != "group-permutation" else neutral
    try:
        return null_gates(gates, family=family, seed=stream_seed(seed, "null", family, draw), batch=batch)
    except InputError as error:
        raise UnmatchedError(f"draw {draw}: {error.what}", got=error.got, allowed=error.allowed, do=error.do) from error


def exact_nulls(
    model: Any,
    gates: GateSet,
    sides: Mapping[str, Sequence[Pair]],
    family: str,
    *,
    draws: int,
    strength: float,
    seed: int,
    neutral: NeutralInputs,
    screened: Screen,
    answers: Sequence[tuple[str, str]] | None = None,
) -> pd.DataFrame:
    """Every draw measured: a row a draw with, for each side, the mean stance margin at `strength` (`wanted`,
    `unwanted`) and the change from strength 0 to first order (`wanted_first`, `unwanted_first`), all in nats.

    `screened` holds the prompts of `sides`, side after side. A family of one member gives one draw.
    Raises `UnmatchedError` where a draw makes no sense for the gates or cannot be matched.
    """
    pairs = [pair for side in SIDES for pair in sides[side]]
    cut = len(sides["wanted"])
    if screened.n_prompts != len(pairs):
        raise InputError("the screen is of other prompts", got=screened.n_prompts, allowed=len(pairs))
    rows = []
    for draw in track(range(draws if FAMILIES[family].seeded else 1), f"{family} nulls"):
        null = draw_null(gates, family, draw, seed=seed, neutral=neutral)
        with null.attached(model, strength):
            exact = stance_margins(model, pairs, answers, label=None).mean(axis=1)
        first = strength * screened.effects(null)
        parts = {"": exact, "_first": first}
        rows.append(
            {"family": family, "draw": draw}
            | {f"wanted{name}": float(values[:cut].mean()) for name, values in parts.items()}
            | {f"unwanted{name}": float(values[cut:].mean()) for name, values in parts.items()}
        )
    return pd.DataFrame(rows)


def screened_nulls(
    screens: Mapping[str, Screen], gates: GateSet, family: str, *, draws: int, strength: float, seed: int, group: int
) -> pd.DataFrame:
    """First-order changes of both sides by `draws` nulls of a family of `TABLED`: a row a draw, nats.

    `screens` has a screen of each side; both see the same draws. `group` heads share keys and values.
    """
    found = {}
    for side in SIDES:
        screen = screens[side]
        if family in FLIPS:
            units = screen.units(gates).mean(axis=0)  # [layers, units]
            if family == "head-sign":
                units = units.reshape(len(units), gates.shape.n_heads, -1).sum(axis=2)
            parts = units.sum(axis=1) if family == "layer-sign" else units
            effects = screened_flips(parts.ravel(), draws=draws, seed=seed)
        elif family == "dimension-permutation":
            effects = screened_permutations(screen.dimensions(gates), draws=draws, seed=seed)
        else:
            tables = screen.heads(gates).mean(axis=0)
            within = group if family == "group-permutation" else None
            effects = screened_permutations(tables, draws=draws, seed=seed, group=within)
        found[side] = strength * effects
    return pd.DataFrame({"family": family, "draw": np.arange(draws), **found})


def recomputed_nulls(
    screen: Screen,
    cut: int,
    gates: GateSet,
    family: str,
    *,
    draws: int,
    strength: float,
    seed: int,
    neutral: NeutralInputs,
) -> pd.DataFrame:
    """The same for a family whose values have to be computed draw by draw, on a screen whose first `cut` prompts are
    the wanted side's."""
    rows = []
    for draw in track(range(draws if FAMILIES[family].seeded else 1), f"{family} nulls, first order"):
        null = draw_null(gates, family, draw, seed=seed, neutral=neutral)
        effects = strength * screen.effects(null)
        rows.append((family, draw, float(effects[:cut].mean()), float(effects[cut:].mean())))
    return pd.DataFrame(rows, columns=["family", "draw", *SIDES])


def dosed_rows(
    model: Any,
    gates: GateSet,
    material: Material,
    *,
    name: str,
    wanted: float,
    texts: Texts,
    sign: int,
) -> tuple[MatchedDose, pd.DataFrame | None]:
    """Gates at the strength of `sign` where they move neutral `texts` as far as `wanted` (KL from base, nats a token).

    Returns the dose and, unless it cannot be matched, the rows of both sides there, as `analysis.behaviour.collect`
    gives them. Where `wanted` is not above 0 there is no dose to match.
    """
    if wanted <= 0:
        why = f"the gates to be matched leave neutral text as it is (KL {wanted:.3g})"
        return MatchedDose(strength=None, reached=0.0, wanted=wanted, why=why), None
    found = matched_dose(model, gates, wanted, texts, sign=sign)
    if found.strength is None:
        return found, None
    return found, collect("stance", model, material, [Arm(gates=gates, strength=found.strength, seed=name)])
