"""How few heads' gates do what all gates do? Faithfulness curves, the smallest set, and direct and indirect effects."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mechgate.analysis.atlas import by_head, head_activity
from mechgate.analysis.attribution import integrated_attribution
from mechgate.analysis.direct import direct_effects
from mechgate.analysis.gate_patching import knock_heads
from mechgate.analysis.head_sets import (
    SetEffects,
    added_up,
    complement,
    ordered,
    random_sets,
    sizes_of,
    smallest_set,
)
from mechgate.causality import head_numbers as numbers_of
from mechgate.causality.maps import first_token_stance
from mechgate.data.pairs import Pair
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import gates_hash
from mechgate.gates.subsets import Head, gated_heads
from mechgate.measure.patching import unpatched
from mechgate.model.loading import fingerprint
from mechgate.model.prompts import prompt_ids
from mechgate.model.resume import Resumable
from mechgate.progress import track
from mechgate.provenance import write_json
from mechgate.seeding import rng
from mechgate.stages import Stages
from mechgate.stats.permutation import FEWEST_NULLS

QUESTION = "How few heads' gates keep the gates' effect, is that fewer than random heads, and is the effect direct?"
SIZE, ATTRIBUTION, KNOCKED = "most gated", "attribution", "knocked in"
Table = Callable[..., np.ndarray]


class HeadSettings(BaseModel):
    """What `mechgate heads` does; unknown keys are errors.

    Heads are put in order on `dev_facts` facts of the dev split, and all effects told are on `facts` of the test split, at
    each of `strengths`; a whole effect whose interval is not beyond `least` nats is not taken apart. `share` is what the
    smallest set keeps; it is compared with `exact` random sets of its layers, and with `draws` screened ones. `exact_band`
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
    random_orders: int = Field(default=2, ge=1)
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

    By gate set and strength: `whole`, the effect on the stance margin (nats) of unseen false claims; `curves` by order of
    heads: the share that the first k heads' gates keep alone, and that is left without them; `band`: what random
    sets keep that have as many heads in each layer as the first k, screened and (if asked for) exactly; `smallest` by order: the set found on dev facts, its
    shares on test facts, what random sets keep (`head_numbers.against_random`), its effect on true claims and its paths; `paths`: whole,
    direct and indirect effect of each layer's gates. Shares are None, with `why not`, where the whole effect is too small.

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
    numbers["gates"] = {}
    for name, one in gates.items():
        numbers["gates"][name] = {}
        for strength in chosen.strengths:
            run = _Run(model, one, chosen, strength, (dev, false, true), stages, name)
            numbers["gates"][name][f"{strength:+g}"] = run.numbers()
    return numbers


class _Run:
    """One gate set at one strength; every table is a stage."""

    def __init__(
        self,
        model: Any,
        gates: GateSet,
        settings: HeadSettings,
        strength: float,
        pairs: tuple[list[Pair], list[Pair], list[Pair]],
        stages: Stages,
        name: str,
    ):
        self.model, self.gates, self.settings, self.strength, self.stages = model, gates, settings, strength, stages
        self.dev, self.false, self.true = pairs
        self.where, self.title = f"{name}/{strength:+g}", f"{name}, s = {strength:+g}"
        ids = [[pair.id for pair in part] for part in pairs]
        self.key = [fingerprint(model), gates_hash(gates), gates.scale, strength, ids, settings.seed]
        self.heads, self.facts = gated_heads(gates), [pair.fact_id for pair in self.false]
        self._measures: dict[str, SetEffects] = {}

    def table(self, title: str, name: str, key: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
        """A table of numbers, made once."""
        path = f"{self.where}/{name}.npy"
        file = self.stages.file(
            f"{self.title}: {title}", path, [*self.key, key], lambda path: np.save(path, make(), allow_pickle=False)
        )
        return np.load(file)

    def effects(self, name: str, title: str, pairs: Sequence[Pair], sets: list[list[Head]]) -> np.ndarray:
        """[n_sets, n_pairs]."""

        return self.table(title, name, sets, lambda: self._measure(pairs)(sets))

    def numbers(self) -> dict[str, Any]:
        """All that is known of this gate set at this strength."""
        seed, layers = self.settings.seed, [[h for h in self.heads if h[0] == k] for k in self.gates.layers]
        whole, *by_layer = self.effects("layers", "each layer's gates", self.false, [self.heads, *layers])
        direct = self.table("direct effects", "direct", None, partial(self._direct, [*layers, self.heads]))
        estimate, why = numbers_of.whole_effect(whole, self.facts, least=self.settings.least, seed=seed)
        found: dict[str, Any] = {"whole": estimate.to_json(), "why not": why, "curves": None, "band": None}
        total = np.array([*by_layer, whole])
        found["paths"] = numbers_of.paths(total, direct, self.gates.layers, self.facts, seed=seed)
        found["smallest"] = None
        if why is None:
            orders = self.orders()
            found["curves"] = self.curves(orders, whole)
            contributions = self.contributions(self.false, "test").mean(axis=0)
            main = [SIZE, ATTRIBUTION]
            found["band"] = {name: self.band(name, orders[name], whole, contributions) for name in main}
            found["smallest"] = numbers_of.adjusted(
                {name: self.smallest(name, orders[name], whole, contributions) for name in main}
            )
        return found

    def orders(self) -> dict[str, list[Head]]:
        """Orders of heads by name, made on dev facts alone."""
        activity = self.table("|g - 1|", "size", None, self._size)
        # Heads that work against the whole come last: the smallest set is asked to keep its effect, not to exceed it.
        share = self.contributions(self.dev, "dev").mean(axis=0)
        orders = {SIZE: ordered(self.gates, activity), ATTRIBUTION: ordered(self.gates, share * np.sign(share.sum()))}
        if self.settings.knock_in:
            knocked = self.table("single heads' gates alone", "knocked", None, self._knocked)
            orders[KNOCKED] = ordered(self.gates, knocked * np.sign(knocked.sum()))
        for k in range(self.settings.random_orders):
            mixed = rng(self.settings.seed, "random order of heads", k).permutation(len(self.heads))
            orders[f"random {k + 1}"] = [self.heads[i] for i in mixed]
        return orders

    def contributions(self, pairs: Sequence[Pair], split: str) -> np.ndarray:
        """Integrated attribution by head: [pairs, layers of gates, heads]; its sum is the effect."""

        def make() -> np.ndarray:
            units = integrated_attribution(self.model, self.gates, pairs, strength=self.strength)
            return by_head(units, self.gates)

        return self.table(f"attribution, {split}", f"attribution-{split}", None, make)

    def curves(self, orders: dict[str, list[Head]], whole: np.ndarray) -> dict[str, Any]:
        """Shares kept by the first k heads alone, and left without them, by order."""
        sizes = sizes_of(len(self.heads))
        kept = [order[:k] for order in orders.values() for k in sizes]
        both = self.effects("curves", "curves", self.false, [*kept, *(complement(self.gates, one) for one in kept)])
        shared = numbers_of.shares(both, whole, self.facts, seed=self.settings.seed)
        n, found = len(sizes), {}
        for i, name in enumerate(orders):
            ends = shared[i * n : (i + 1) * n], shared[len(kept) + i * n : len(kept) + (i + 1) * n]
            found[name] = {"sizes": sizes, "kept": ends[0], "left": ends[1]}
        return found

    def band(self, name: str, order: list[Head], whole: np.ndarray, contributions: np.ndarray) -> dict[str, Any]:
        """What random sets keep that have the layers of the first k heads of an order: screened (the middle 95% of many),
        and if asked for the range of 19 exact ones."""
        sizes = sizes_of(len(order))
        screened = [numbers_of.quantiles(self._screened(order[:k], contributions)) for k in sizes]
        found: dict[str, Any] = {"screened": screened, "exact": None}
        if self.settings.exact_band and name == SIZE:
            n, settings = FEWEST_NULLS, self.settings
            sets = [random_sets(order[:k], self.gates.shape.n_heads, seed=settings.seed, draws=n) for k in sizes]
            exact = self.effects("band", "random sets of every size", self.false, [one for k in sets for one in k])
            kept = exact.mean(axis=1).reshape(len(sizes), n) / whole.mean()
            found["exact"] = [
                {"low": float(min(k)), "median": float(np.median(k)), "high": float(max(k))} for k in kept
            ]
        return found

    def smallest(self, name: str, order: list[Head], whole: np.ndarray, contributions: np.ndarray) -> Any:
        """The smallest first part of an order, found on dev facts, and what it does on test facts."""
        found = self._searched(name, order)
        if found["heads"] is None:
            return None
        heads, seed, short = [tuple(head) for head in found["heads"]], self.settings.seed, name.replace(" ", "-")
        rest = complement(self.gates, heads)
        kept, left = self.effects(f"found-{short}", f"smallest set, {name}", self.false, [heads, rest])
        (true,) = self.effects(f"true-{short}", f"smallest set, {name}, true claims", self.true, [heads])
        random = random_sets(heads, self.gates.shape.n_heads, seed=seed, draws=self.settings.exact)
        exact = self.effects(f"random-{short}", f"random sets, {name}", self.false, random)
        direct = self.table(f"direct effects, {name}", f"direct-{short}", heads, partial(self._direct, [heads]))
        sum_ = contributions.sum()
        (screened,) = added_up(self.gates, contributions, [heads]) / sum_
        own = added_up(self.gates, contributions, random) / sum_
        share, remaining = numbers_of.shares(np.array([kept, left]), whole, self.facts, seed=seed)
        drawn = self._screened(heads, contributions)
        beside = numbers_of.against_random(share["value"], exact, whole, screened, drawn, own)
        claims = numbers_of.on_true_claims(kept, true, self.facts, seed=seed)
        by_path = numbers_of.by_path(kept[None], direct, self.facts, seed=seed)
        path = {kind: values[0] for kind, values in by_path.items()}
        return {**found, "kept": share, "left": remaining, "random": beside, "claims": claims, "paths": path}

    def _searched(self, name: str, order: list[Head]) -> dict[str, Any]:
        def make(path: Path) -> None:
            effects = self._measure(self.dev)
            whole = effects([order], None).mean()
            if whole == 0:  # no share of nothing
                write_json(path, {"heads": None, "tried on dev facts": {}})
                return

            def kept(k: int) -> float:
                return float(effects([order[:k]], None).mean() / whole)

            found = smallest_set(order, kept, share=self.settings.share)
            heads = None if found is None else [list(head) for head in found.heads]
            tried = {} if found is None else {str(k): share for k, share in found.tried.items()}
            write_json(path, {"heads": heads, "tried on dev facts": tried})

        key = [*self.key, self.settings.share, order]
        title = f"{self.title}: smallest set, {name}, dev facts"
        path = self.stages.file(title, f"{self.where}/smallest-{name.replace(' ', '-')}.json", key, make)
        return json.loads(path.read_text(encoding="utf-8"))

    def _measure(self, pairs: Sequence[Pair]) -> SetEffects:
        """One for each set of pairs and all stages: the base and sets that come again are measured once."""
        if pairs[0].id not in self._measures:
            self._measures[pairs[0].id] = SetEffects(self.model, self.gates, pairs, strength=self.strength)
        return self._measures[pairs[0].id]

    def _screened(self, heads: list[Head], contributions: np.ndarray) -> np.ndarray:
        sets = random_sets(heads, self.gates.shape.n_heads, seed=self.settings.seed, draws=self.settings.draws)
        return added_up(self.gates, contributions, sets) / contributions.sum()

    def _direct(self, sets: list[list[Head]]) -> np.ndarray:
        return direct_effects(self.model, self.gates, sets, self.false, strength=self.strength)

    def _size(self) -> np.ndarray:
        return head_activity(self.model, self.gates, self.dev, strength=self.strength)[..., 0].mean(axis=0)

    def _knocked(self) -> np.ndarray:
        metric, found = first_token_stance(self.model), []
        for pair in track(self.dev, "knocking heads in"):
            ids = prompt_ids(self.model, pair.messages)
            alone = knock_heads(self.model, self.gates, ids, metric, strength=self.strength, way="in", label=None)
            found.append((alone - unpatched(Resumable(self.model, ids), metric))[list(self.gates.layers)])
        return np.mean(found, axis=0)


def _facts(task: str, split: str, n: int) -> list[Pair]:
    """One claim a fact, `n` facts spread evenly over the split; the same facts and wordings for both tasks."""
    pairs = load_pairs(task, None, split, phrasings=1)
    if n > len(pairs):
        raise InputError("there are not as many facts", got=n, allowed=f"at most {len(pairs)} of the {split} split")
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, n).round().astype(int)]
