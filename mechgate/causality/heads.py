"""How few heads' gates do what all gates do? Faithfulness curves, the smallest set, and direct and indirect effects."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mechgate.analysis.head_sets import WITHIN, added_up, complement, random_sets, sizes_of
from mechgate.causality import head_numbers
from mechgate.causality.head_tables import ATTRIBUTION, SIZE, HeadTables
from mechgate.data.pairs import Pair
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.subsets import Head, gated_heads
from mechgate.stages import Stages
from mechgate.stats.permutation import FEWEST_NULLS

QUESTION = "How few heads' gates keep the gates' effect, is that fewer than random heads, and is the effect direct?"
MAIN = (SIZE, ATTRIBUTION)
"""The orders whose smallest set is asked for; the others are curves only."""


class HeadSettings(BaseModel):
    """What `mechgate heads` does; unknown keys are errors.

    Heads are put in order on `dev_facts` facts of the dev split, and all effects told are on `facts` of the test split, at
    each of `strengths`; a whole effect whose interval is not beyond `least` nats is not taken apart. `share` is what the
    smallest set keeps; it is compared with `exact` random sets of its layers and as many from all layers, and with
    `draws` screened ones. `exact_band`
    measures random sets at every size of the curves too, where the screen cannot be trusted. `knock_in` adds the order by
    exact effects of single heads; there are `random_orders` random ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strengths: tuple[float, ...] = Field(default=(-1.0, 1.0), min_length=1)
    dev_facts: int = Field(default=12, ge=2)
    facts: int = Field(default=12, ge=4)
    share: float = Field(default=0.9, gt=0, lt=1)
    least: float = Field(default=0.5, gt=0)
    exact: int = Field(default=40, ge=19)
    draws: int = Field(default=1_000, ge=99)
    exact_band: bool = False
    knock_in: bool = False
    random_orders: int = Field(default=1, ge=1)
    seed: int = 0


def head_sets(
    model: Any,
    gates: Mapping[str, GateSet],
    *,
    settings: HeadSettings | None = None,
    folder: str | Path,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Which heads' gates suffice, are needed and act directly, as plain JSON values; tables are kept in `folder`.

    By gate set and strength: `whole`, the effect on the stance margin (nats) of unseen false claims; `paths`: whole, direct
    and indirect effect of each layer's gates alone and of all; `curves` by order of heads: the share of the effect that the
    first k heads' gates keep alone, and that is left without them; `band`: what random sets of k heads keep, with as
    many in each layer as the first k ("layers") or anywhere ("all"), screened and (if asked for) exactly; `smallest` by order: the set found on dev facts, its
    shares on test facts, what both kinds of random sets keep (`head_numbers.against_random`), its effect on true claims and its paths.
    Shares are None, with `why not`, where the whole effect is too small.

    Raises `InputError` for no gates, gates without heads, and more facts than there are.
    """
    chosen = settings or HeadSettings()
    if not gates:
        raise InputError("there are no gates whose heads could be left out", got="none")
    dev, false, true = (
        _facts(*asked)
        for asked in (
            ("sycophancy", "dev", chosen.dev_facts),
            ("sycophancy", "test", chosen.facts),
            ("genuine-agreement", "test", chosen.facts),
        )
    )
    stages = Stages(folder, say)
    numbers: dict[str, Any] = {"facts": len(false), "settings": chosen.model_dump(mode="json")}
    numbers["heads"] = {name: len(gated_heads(one)) for name, one in gates.items()}
    numbers["gates"] = {
        name: {
            f"{strength:+g}": _numbers(HeadTables(model, one, strength, (dev, false, true), stages, name), chosen)
            for strength in chosen.strengths
        }
        for name, one in gates.items()
    }
    return numbers


def _numbers(tables: HeadTables, settings: HeadSettings) -> dict[str, Any]:
    """All that is known of one gate set at one strength."""
    layers = [[head for head in tables.heads if head[0] == k] for k in tables.gates.layers]
    sets = [*layers, tables.heads]
    total = tables.effects("layers", "each layer's gates", tables.false, sets)
    direct, whole = tables.direct("direct", "direct effects", sets), total[-1]
    estimate, why = head_numbers.whole_effect(whole, tables.facts, least=settings.least, seed=settings.seed)
    found: dict[str, Any] = {"whole": estimate.to_json(), "why not": why}
    found["paths"] = head_numbers.paths(total, direct, tables.gates.layers, tables.facts, seed=settings.seed)
    if why is not None:
        return {**found, "curves": None, "band": None, "smallest": None}
    orders = tables.orders(knock_in=settings.knock_in, mixed=settings.random_orders, seed=settings.seed)
    parts = _Parts(tables, settings, whole)
    return {
        **found,
        "curves": parts.curves(orders),
        "band": {name: parts.band(orders[name], exact=settings.exact_band and name == SIZE) for name in MAIN},
        "smallest": head_numbers.adjusted({name: parts.smallest(name, orders[name]) for name in MAIN}),
    }


class _Parts:
    """A whole effect [facts] taken apart."""

    def __init__(self, tables: HeadTables, settings: HeadSettings, whole: np.ndarray):
        self.tables, self.settings, self.whole = tables, settings, whole
        self.contributions = tables.contributions("test").mean(axis=0)

    def curves(self, orders: dict[str, list[Head]]) -> dict[str, Any]:
        """Shares kept by the first k heads alone, and left without them, by order."""
        sizes = sizes_of(len(self.tables.heads))
        kept = [order[:k] for order in orders.values() for k in sizes]
        sets = [*kept, *(complement(self.tables.gates, one) for one in kept)]
        shares = self._shares(self.tables.effects("curves", "curves", self.tables.false, sets))
        n, half = len(sizes), len(kept)
        return {
            name: {"sizes": sizes, "kept": shares[i * n :][:n], "left": shares[half + i * n :][:n]}
            for i, name in enumerate(orders)
        }

    def band(self, order: list[Head], *, exact: bool) -> dict[str, Any]:
        """What random sets of each size keep, by `WITHIN`: screened (the middle 95% of many), and if asked for the range of 19
        exact ones."""
        sizes = sizes_of(len(order))
        found: dict[str, Any] = {}
        for within in WITHIN:
            drawn = [self._screened(self._random(order[:k], self.settings.draws, within)) for k in sizes]
            found[within] = {"screened": [head_numbers.quantiles(one) for one in drawn], "exact": None}
            if exact:
                sets = [one for k in sizes for one in self._random(order[:k], FEWEST_NULLS, within)]
                title = f"random sets of every size, {within}"
                kept = self.tables.effects(f"band {within}", title, self.tables.false, sets).mean(axis=1)
                by_size = kept.reshape(len(sizes), FEWEST_NULLS) / self.whole.mean()
                found[within]["exact"] = [
                    {"low": float(min(one)), "median": float(np.median(one)), "high": float(max(one))}
                    for one in by_size
                ]
        return found

    def smallest(self, name: str, order: list[Head]) -> dict[str, Any] | None:
        """The smallest first part of an order, found on dev facts, and what it does on test facts."""
        tables, seed = self.tables, self.settings.seed
        found = tables.smallest(name, order, self.settings.share)
        if found["heads"] is None:
            return None
        heads = [(int(layer), int(head)) for layer, head in found["heads"]]
        sets = [heads, complement(tables.gates, heads)]
        kept, left = tables.effects(f"found {name}", f"smallest set, {name}", tables.false, sets)
        (true,) = tables.effects(f"true {name}", f"smallest set, {name}, true claims", tables.true, [heads])
        direct = tables.direct(f"direct {name}", f"direct effects, {name}", [heads])
        share, remaining = self._shares(np.array([kept, left]))
        paths = head_numbers.by_path(kept[None], direct, tables.facts, seed=seed)
        return {
            **found,
            "kept": share,
            "left": remaining,
            "random": {within: self._beside(name, heads, share["value"], within) for within in WITHIN},
            "claims": head_numbers.on_true_claims(kept, true, tables.facts, seed=seed),
            "paths": {kind: values[0] for kind, values in paths.items()},
        }

    def _beside(self, name: str, heads: list[Head], share: float, within: str) -> dict[str, Any]:
        random, tables = self._random(heads, self.settings.exact, within), self.tables
        exact = tables.effects(f"random {name} {within}", f"random sets, {name}, {within}", tables.false, random)
        found = head_numbers.against_random(
            share,
            exact,
            self.whole,
            screened=float(self._screened([heads])[0]),
            draws=self._screened(self._random(heads, self.settings.draws, within)),
            own=self._screened(random),
        )
        return {**found, "different": len(set(map(tuple, random)))}

    def _shares(self, effects: np.ndarray) -> list[dict[str, Any]]:
        return head_numbers.shares(effects, self.whole, self.tables.facts, seed=self.settings.seed)

    def _random(self, heads: list[Head], draws: int, within: str) -> list[list[Head]]:
        return random_sets(heads, self.tables.heads, within=within, seed=self.settings.seed, draws=draws)

    def _screened(self, sets: list[list[Head]]) -> np.ndarray:
        return added_up(self.tables.gates, self.contributions, sets) / self.contributions.sum()


def _facts(task: str, split: str, n: int) -> list[Pair]:
    """One claim a fact, `n` facts spread evenly over the split; the same facts and wordings for both tasks."""
    pairs = load_pairs(task, None, split, phrasings=1)
    if n > len(pairs):
        raise InputError("there are not as many facts", got=n, allowed=f"at most {len(pairs)} of the {split} split")
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, n).round().astype(int)]
