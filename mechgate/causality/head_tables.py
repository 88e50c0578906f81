"""The tables behind `causality.heads`: what is measured of one gate set at one strength, each table made once."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mechgate.analysis.atlas import by_head, head_activity
from mechgate.analysis.attribution import integrated_attribution
from mechgate.analysis.direct import direct_effects
from mechgate.analysis.gate_patching import knock_heads
from mechgate.analysis.head_sets import SetEffects, ordered, smallest_set
from mechgate.causality.maps import first_token_stance
from mechgate.data.pairs import Pair
from mechgate.data.tasks import stance_answers
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

SIZE, ATTRIBUTION, KNOCKED = "most gated", "attribution", "knocked in"
"""Orders of heads: by mean |g - 1|, by integrated attribution, by the exact effect of the head's gates alone."""


class HeadTables:
    """One gate set at one strength, on false claims of the dev split (`dev`) and of the test split (`false`), and on true
    claims about the same facts as the latter (`true`). Tables are stages in the folder `name`/strength.

    Raises `InputError` for gates without heads.
    """

    def __init__(
        self,
        model: Any,
        gates: GateSet,
        strength: float,
        pairs: tuple[Sequence[Pair], Sequence[Pair], Sequence[Pair]],
        stages: Stages,
        name: str,
    ):
        self.model, self.gates, self.strength = model, gates, strength
        self.dev, self.false, self.true = pairs
        self.heads, self.facts = gated_heads(gates), [pair.fact_id for pair in self.false]
        self._stages, self._where, self._title = stages, f"{name}/{strength:+g}", f"{name}, s = {strength:+g}"
        asked = [[(pair.id, list(pair.messages)) for pair in part] for part in pairs]
        self._key = [fingerprint(model), gates_hash(gates), gates.scale, strength, asked, stance_answers()]
        self._measures: dict[str, SetEffects] = {}

    def effects(self, name: str, title: str, pairs: Sequence[Pair], sets: list[list[Head]]) -> np.ndarray:
        """Change of the stance margin with only each set's gates on: [n_sets, n_pairs], nats."""
        return self._table(title, name, sets, lambda: self._measure(pairs)(sets))

    def direct(self, name: str, title: str, sets: list[list[Head]]) -> np.ndarray:
        """The part of it that is direct, on `false`: [n_sets, n_pairs], nats."""

        def make() -> np.ndarray:
            return direct_effects(self.model, self.gates, sets, self.false, strength=self.strength)

        return self._table(title, name, sets, make)

    def contributions(self, split: str) -> np.ndarray:
        """Integrated attribution by head on "dev" or "test" pairs: [n_pairs, n_layers of gates, n_heads]; its sum is the
        whole effect."""

        def make() -> np.ndarray:
            pairs = self.dev if split == "dev" else self.false
            return by_head(integrated_attribution(self.model, self.gates, pairs, strength=self.strength), self.gates)

        return self._table(f"attribution, {split}", f"attribution-{split}", None, make)

    def orders(self, *, knock_in: bool, mixed: int, seed: int) -> dict[str, list[Head]]:
        """Orders of heads by name, made on dev facts alone: `SIZE`, `ATTRIBUTION`, `KNOCKED` if asked for, and `mixed` random
        ones. Heads that work against the whole come last: a set is asked to keep its effect, not to exceed it."""
        share = self.contributions("dev").mean(axis=0)
        size = self._table("|g - 1|", "size", None, self._size)
        orders = {SIZE: ordered(self.gates, size), ATTRIBUTION: ordered(self.gates, share * np.sign(share.sum()))}
        if knock_in:
            knocked = self._table("single heads' gates alone", "knocked", None, self._knocked)
            orders[KNOCKED] = ordered(self.gates, knocked * np.sign(knocked.sum()))
        for k in range(mixed):
            order = rng(seed, "random order of heads", k).permutation(len(self.heads))
            orders[f"random {k + 1}"] = [self.heads[i] for i in order]
        return orders

    def smallest(self, name: str, order: list[Head], share: float) -> dict[str, Any]:
        """The first heads of an order that keep `share` of the effect on dev facts, and every size tried with its share;
        `heads` None where there is no effect on these facts."""

        def make(path: Path) -> None:
            effects = self._measure(self.dev)
            whole = float(effects([order], None).mean())
            found = (
                smallest_set(order, lambda k: float(effects([order[:k]], None).mean() / whole), share=share)
                if whole
                else None
            )
            heads = None if found is None else [list(head) for head in found.heads]
            tried = {} if found is None else {str(k): kept for k, kept in found.tried.items()}
            write_json(path, {"heads": heads, "tried on dev facts": tried})

        title = f"{self._title}: smallest set, {name}, dev facts"
        file = f"{self._where}/smallest-{name.replace(' ', '-')}.json"
        path = self._stages.file(title, file, [*self._key, share, order], make)
        return json.loads(path.read_text(encoding="utf-8"))

    def _table(self, title: str, name: str, key: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
        file, whole = f"{self._where}/{name.replace(' ', '-')}.npy", [*self._key, key]
        path = self._stages.file(f"{self._title}: {title}", file, whole, lambda path: np.save(path, make()))
        return np.load(path)

    def _measure(self, pairs: Sequence[Pair]) -> SetEffects:
        """One for each set of pairs and all tables: the base and sets that come again are measured once."""
        if pairs[0].id not in self._measures:
            self._measures[pairs[0].id] = SetEffects(self.model, self.gates, pairs, strength=self.strength)
        return self._measures[pairs[0].id]

    def _size(self) -> np.ndarray:
        return head_activity(self.model, self.gates, self.dev, strength=self.strength)[..., 0].mean(axis=0)

    def _knocked(self) -> np.ndarray:
        metric, found = first_token_stance(self.model), []
        for pair in track(self.dev, "knocking heads in"):
            ids = prompt_ids(self.model, pair.messages)
            alone = knock_heads(self.model, self.gates, ids, metric, strength=self.strength, way="in", label=None)
            found.append((alone - unpatched(Resumable(self.model, ids), metric))[list(self.gates.layers)])
        return np.mean(found, axis=0)
