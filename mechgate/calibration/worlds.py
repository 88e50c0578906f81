"""Worlds whose truth is known: tables of margins as the referee measures them, drawn instead of measured.

Sizes of the variations are those of a real analysis (`components_of` its result file); what a world decides is how large
the effect is, how much of it spares what should be spared, and how much is damaged.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mechgate.errors import DataError, InputError
from mechgate.referee.draws import SIDES
from mechgate.referee.summary import PERPLEXITY_RATIO
from mechgate.referee.tables import DAMAGING
from mechgate.stats.equivalence import ITEM_MARGIN

STRENGTH = -1.0
TASKS = ("bad-advice", "correct-advice", "genuine-agreement", "shuffled", "sign-off", "unit-conversion")
NULLS = ("row-sign", "dampener")
MEASURES = ("four-choice", "perplexity")
CELLS = 0.5
"""Standard deviation of single cells (one set on one fact) in units of that of facts: assumed, since result files hold
means over sets."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """Standard deviations. Of changes, relative to the size of the effect: of gate sets and of facts, each for the
    `common` part (E + A) / 2 and for the part in which the two sides move `apart`, E - A. In nats: `base_apart`, the
    base's own difference between the sides by fact; `item`, changes of item margins; `rate`, log perplexity ratios."""

    set_common: float
    set_apart: float
    fact_common: float
    fact_apart: float
    base_apart: float
    item: float
    rate: float


@dataclass(frozen=True, kw_only=True)
class World:
    """One truth. `effect`: nats, E at the verdict's strength; `sigma` = 1 - A/E; `size`: nats that the variations are
    relative to; `damage`: by measure, in units of its margin; `tells`: nats by which the base tells the sides apart, and
    the probe's accuracy above chance. `wrong`: outcomes that are errors, which `nominal` bounds the chance of. `weighed`:
    rivals are weighed also where the axis alone decides."""

    name: str
    what: str
    effect: float
    sigma: float
    size: float
    wrong: frozenset[str]
    nominal: float = 0.05
    damage: Mapping[str, float] | None = None
    tells: tuple[float, float] = (1.0, 0.3)
    weighed: bool = False

    @property
    def side_effect(self) -> float:
        return (1 - self.sigma) * self.effect


@dataclass(frozen=True, kw_only=True)
class Design:
    """How much is measured: gate sets, facts of the verdict, of these those at equal dose, control sets a task, four-choice
    items and neutral texts."""

    sets: int = 5
    facts: int = 120
    dose_facts: int = 16
    controls: int = 5
    items: int = 264
    texts: int = 67


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Tables as `mechgate.referee` measures them, and the probe's hits by fact (0, 0.5 or 1)."""

    start: pd.DataFrame
    rows: pd.DataFrame
    learned: pd.DataFrame
    dosed: dict[str, dict[str, pd.DataFrame]]
    able: pd.DataFrame
    neutral: pd.DataFrame
    probe: np.ndarray


def null_worlds(effect: float) -> tuple[World, ...]:
    """The worlds in which a verdict can be wrong; `effect` (nats, below 0) is that of gates that act.

    Inert, unrelated-trained, boundary of sigma and of damage (amendment 13), and two boundaries more that the rule has:
    an effect of exactly the bound, and a base at chance.
    """
    if not effect < -1:
        raise InputError("the worlds need an effect beyond the bound of 0.5 nats", got=effect, allowed="below -1")
    acts: dict[str, Any] = dict(effect=effect, size=-effect)
    every = {"ineffective", "undecidable", "not selective", "selective", "partly selective", "inconclusive"}
    usual = frozenset({"selective", "partly selective"})
    return (
        World(
            name="inert",
            what="gates do nothing",
            effect=0,
            sigma=0,
            size=0.3,
            wrong=frozenset(every - {"ineffective"}),
        ),
        World(
            name="effect at its bound",
            what="E is exactly 0.5 nats",
            effect=-0.5,
            sigma=1,
            size=0.5,
            wrong=frozenset(every - {"ineffective"}),
            nominal=0.025,
        ),
        World(
            name="unrelated",
            what="trained on something else, as the controls were; sigma = 0",
            effect=-1.0,
            sigma=0,
            size=1.0,
            wrong=usual,
            weighed=True,
        ),
        World(
            name="sigma at .5",
            what="sigma is exactly .5",
            sigma=0.5,
            wrong=frozenset({"selective", "not selective"}),
            **acts,
        ),
        World(
            name="perplexity at margin",
            what="sigma = 1, perplexity exactly 5% up",
            sigma=1,
            damage={"perplexity": 1.0},
            wrong=frozenset({"selective"}),
            **acts,
        ),
        World(
            name="items at margin",
            what="sigma = 1, item margins down by exactly 0.2 SD",
            sigma=1,
            damage={"four-choice": 1.0},
            wrong=frozenset({"selective"}),
            **acts,
        ),
        World(
            name="base at chance",
            what="sigma = 1, the base tells nothing apart",
            sigma=1,
            tells=(0.0, 0.0),
            wrong=frozenset(every - {"undecidable"}),
            **acts,
        ),
    )


def components_of(result: Mapping[str, Any], context: str = "base") -> Components:
    """The variations of a real analysis: the numbers of `mechgate selectivity`'s result file, at its strength.

    Of gate sets: the spread of the sets' means. Of facts: what is left of the intervals' width over sets and facts. Raises
    `DataError` for a result without these numbers or with fewer than two gate sets.
    """
    try:
        found = result["numbers"]["contexts"][context]
        strength = result["numbers"]["settings"]["strength"]
        one = next(axis for axis in found["axes"]["all"] if axis["strength"] == strength)
        sets = [point for point in found["sets"] if point["strength"] == strength]
        e, a = (np.array([point[side] for point in sets]) for side in SIDES)
        effect, facts, k = abs(one["effect"]["value"]), one["effect"]["n"], len(sets)
        common, apart = float(((e + a) / 2).std(ddof=1)), float((e - a).std(ddof=1))
        spared, base = found["spared"], found["base"]["discrimination"]
        chat = spared["perplexity, chat"]["estimate"]
        error = (chat["high"] - chat["low"]) / 2 / 1.645
        return Components(
            set_common=common / effect,
            set_apart=apart / effect,
            fact_common=_of_facts(one["effect"], common, k, facts) / effect,
            fact_apart=_of_facts(found["interaction"], apart, k, facts) / effect,
            base_apart=_of_facts(base, 0.0, 1, base["n"]),
            item=spared["four-choice margin"]["margin"][1] / ITEM_MARGIN,
            rate=error * math.sqrt(chat["n"]),
        )
    except (KeyError, TypeError, StopIteration, IndexError) as error:
        raise DataError("the result holds no selectivity analysis of some gate sets", got=repr(error)) from error


def _of_facts(interval: Mapping[str, float], of_sets: float, k: int, facts: int) -> float:
    """The spread of facts that an interval of a bootstrap over sets and facts leaves."""
    error = (interval["high"] - interval["low"]) / 2 / 1.96
    return math.sqrt(max(error**2 - of_sets**2 * (k - 1) / k**2, 0.0) * facts)


def draw(world: World, components: Components, design: Design, stream: np.random.Generator) -> Drawn:
    """One simulation of a world."""
    facts = np.array([f"fact-{i:03}" for i in range(design.facts)])
    base = stream.normal(0, 1, design.facts)
    apart = world.tells[0] + components.base_apart * stream.normal(size=design.facts)
    start = _both_sides(base + apart / 2, base - apart / 2, facts)
    names = [f"gates-{i}" for i in range(design.sets)]

    def rows(who: list[str], chosen: np.ndarray, effect: float, sigma: float, size: float) -> pd.DataFrame:
        c, n = components, len(facts)
        m = (2 - sigma) / 2 * effect + size * _varied(stream, len(who), n, c.set_common, c.fact_common)
        d = sigma * effect + size * _varied(stream, len(who), n, c.set_apart, c.fact_apart)
        sides = base + apart / 2 + m + d / 2, base - apart / 2 + m - d / 2
        found = _both_sides(sides[0][:, chosen], sides[1][:, chosen], facts[chosen])
        return found.assign(seed=np.repeat(who, 2 * len(chosen)), strength=STRENGTH)

    measured = rows(names, np.arange(design.facts), world.effect, world.sigma, world.size)
    few = np.linspace(0, design.facts - 1, design.dose_facts).round().astype(int)
    known = dict(dose=1.0, kl=0.4, why="")
    # Controls act, and turn both sides alike; nulls of the same dose hardly act.
    controls = {
        task: rows([f"{task}-{i}" for i in range(design.controls)], few, -1.0, 0.0, 1.0).assign(**known)
        for task in TASKS
    }
    nulls = {family: rows(names, few, 0.0, 0.0, 0.3).assign(**known) for family in NULLS}
    damage = dict.fromkeys(MEASURES, 0.0) | dict(world.damage or {})
    return Drawn(
        start=start,
        rows=measured,
        learned=measured[measured["fact"].isin(facts[few])],
        dosed={"nulls": nulls, "controls": controls},
        able=_items(stream, names, design.items, components.item, -ITEM_MARGIN * damage["four-choice"]),
        neutral=_texts(stream, names, design.texts, components.rate, math.log(PERPLEXITY_RATIO) * damage["perplexity"]),
        probe=stream.binomial(2, 0.5 + world.tells[1], design.facts) / 2,
    )


def _varied(stream: np.random.Generator, sets: int, facts: int, of_set: float, of_fact: float) -> np.ndarray:
    """Variation [sets, facts] by set, by fact (the same in all sets) and by cell."""
    own = of_set * stream.normal(size=(sets, 1)) + of_fact * stream.normal(size=(1, facts))
    return own + CELLS * of_fact * stream.normal(size=(sets, facts))


def _both_sides(wanted: np.ndarray, unwanted: np.ndarray, facts: np.ndarray) -> pd.DataFrame:
    """Rows of both sides, values [facts] or [sets, facts]: set by set the wanted side's facts, then the other's."""
    values = np.stack([np.atleast_2d(wanted), np.atleast_2d(unwanted)], axis=1)
    sets = len(values)
    return pd.DataFrame(
        {
            "id": np.tile([f"{side}/{fact}" for side in SIDES for fact in facts], sets),
            "fact": np.tile(facts, 2 * sets),
            "set": np.tile(np.repeat(SIDES, len(facts)), sets),
            "value": values.ravel(),
        }
    )


def _changed(
    stream: np.random.Generator, names: list[str], n: int, deviation: float, shift: float, damaged: float
) -> dict[str, np.ndarray]:
    """Changes by record without gates, under each set and under damage. All sets change a record alike: the referee
    averages them first, and what was measured is the spread of that mean."""
    moved = shift + deviation * stream.normal(size=n)
    return {"": np.zeros(n), **dict.fromkeys(names, moved), DAMAGING: damaged + deviation * stream.normal(size=n)}


def _items(stream: np.random.Generator, names: list[str], n: int, deviation: float, shift: float) -> pd.DataFrame:
    moved = _changed(stream, names, n, deviation, shift * deviation, -2 * deviation)
    return pd.concat(
        [
            pd.DataFrame({"id": np.arange(n).astype(str), "set": "four-choice", "seed": s, "value": v})
            for s, v in moved.items()
        ],
        ignore_index=True,
    )


def _texts(stream: np.random.Generator, names: list[str], n: int, deviation: float, shift: float) -> pd.DataFrame:
    moved = _changed(stream, names, n, deviation, shift, 1.0)
    tokens = 100
    return pd.concat(
        [
            pd.DataFrame(
                {"id": np.arange(n).astype(str), "set": "chat", "seed": s, "tokens": tokens, "nll": tokens * (3 + v)}
            )
            for s, v in moved.items()
        ],
        ignore_index=True,
    )
