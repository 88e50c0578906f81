"""The tables of a selectivity analysis: each measured once, kept in the run folder, reused while nothing changes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any

import pandas as pd
import torch

from mechgate.analysis.behaviour import Arm, Material, collect
from mechgate.analysis.dose import FARTHEST, matched_dose, neutral_kl
from mechgate.data.pairs import data_hash
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import gates_hash
from mechgate.measure.capability import NeutralBase, neutral_base, neutral_text
from mechgate.model.loading import fingerprint
from mechgate.provenance import stable_hash
from mechgate.referee.design import SelectivitySettings, first_texts, some_facts
from mechgate.seeding import rng
from mechgate.stages import Stages

TEXTS = ("id", "fact", "domain", "set", "seed", "task", "family", "why")
DAMAGING_KL = 1.0
"""Nats a token of neutral text that gates known to damage cost."""
DAMAGING = "known to damage"


class Tables:
    """What is measured on one model, table by table. Rows are those of `analysis.behaviour.collect` unless said."""

    def __init__(self, model: Any, material: Material, settings: SelectivitySettings, stages: Stages, name: str):
        self.model, self.material, self.settings, self.stages, self.name = model, material, settings, stages, name
        self.sides = some_facts(material.stance, settings.facts)
        self.dose_sides = some_facts(self.sides, settings.dose_facts)
        self.null_sides = some_facts(self.dose_sides, settings.null_facts)
        self.texts = first_texts(material, settings.dose_texts)
        self._place = [fingerprint(model), str(next(model.original_model.parameters()).dtype)]

    def start(self) -> pd.DataFrame:
        """Both sides without gates."""
        return self.stance("both sides, no gates", "start", self.sides, [Arm()])

    def turned(self, name: str, gates: GateSet, strengths: Sequence[float]) -> pd.DataFrame:
        """Both sides at `strengths`, on the facts of the verdict."""
        arms = [Arm(gates=gates, strength=s, seed=name) for s in strengths]
        return self.stance(f"both sides, {name}", f"{name}-verdict", self.sides, arms, gates)

    def curve(self, name: str, gates: GateSet) -> pd.DataFrame:
        """Both sides at the other strengths of the dose curve, on the facts for that."""
        rest = [s for s in self.settings.strengths if s not in self.settings.both]
        arms = [Arm(gates=gates, strength=s, seed=name) for s in rest]
        if not arms:
            return self.turned(name, gates, self.settings.both).iloc[:0]
        return self.stance(f"dose curve, {name}", f"{name}-curve", self.dose_sides, arms, gates)

    def control(self, task: str, name: str, gates: GateSet) -> pd.DataFrame:
        """A control set at the strengths of the bands, on the facts of the dose curve."""
        arms = [Arm(gates=gates, strength=s, seed=name) for s in self.settings.bands]
        found = self.stance(f"control, {name}", f"control-{name}", self.dose_sides, arms, gates)
        return found.assign(task=task)

    def kl(self, name: str, gates: GateSet) -> float:
        """KL(base || gated) at the verdict's strength on the texts that set doses: nats a token."""

        def make() -> pd.DataFrame:
            (found,) = neutral_kl(self.model, gates, [self.settings.strength], self.dose_base)
            return pd.DataFrame({"kl": [found]})

        made_from = [self.settings.strength, data_hash(self.texts), gates_hash(gates)]
        return float(self.kept(f"dose, {name}", f"{name}-dose", made_from, make)["kl"].iloc[0])

    def able(self, gates: Mapping[str, GateSet]) -> pd.DataFrame:
        """Four-choice items and refusals of benign requests: without gates, at the verdict's strength, and under gates
        that are known to damage; measured set by set."""
        s = self.settings.strength
        parts = [self._damage("start", None, Arm)]
        parts += [
            self._damage(n, [s, gates_hash(g)], partial(Arm, gates=g, strength=s, seed=n)) for n, g in gates.items()
        ]
        parts += [self._damage(DAMAGING, [data_hash(self.texts), self.settings.seed], lambda: self._damaging)]
        return pd.concat(parts, ignore_index=True)

    def neutral_rows(self, gates: Mapping[str, GateSet]) -> pd.DataFrame:
        """All neutral texts (`tokens`, `nll`, `kl`): without gates, at the verdict's strength, and under damage."""
        s = self.settings.strength

        def make() -> pd.DataFrame:
            arms = [Arm(), *(Arm(gates=g, strength=s, seed=n) for n, g in gates.items()), self._damaging]
            return collect("neutral", self.model, self.material, arms)

        texts = [data_hash(self.texts), data_hash(list(self.material.texts.values()))]
        made_from = [s, [gates_hash(g) for g in gates.values()], texts, self.settings.seed]
        return self.kept("neutral text", "neutral", made_from, make)

    def divergence(self, gates: Mapping[str, GateSet], base: Any) -> pd.DataFrame:
        """KL(base || this model) without gates and with each set at the verdict's strength, on neutral texts and on
        agreeing answers to what should be spared: `kl` and `tokens` by `set`."""

        def make() -> pd.DataFrame:
            spared = [pair.as_example("matching") for pair in self.null_sides["unwanted"]]
            found = []
            for kind, texts in (("neutral", list(self.texts)), ("unwanted", spared)):
                arms = [None, *(partial(g.attached, self.model, self.settings.strength) for g in gates.values())]
                for name, one in zip(
                    ["", *gates], neutral_text(self.model, texts, arms, base=base, label=None), strict=True
                ):
                    ids = [f"{kind}-{i}" for i in range(len(texts))]
                    found.append(
                        pd.DataFrame({"id": ids, "set": kind, "seed": name, "kl": one.kl, "tokens": one.tokens})
                    )
            return pd.concat(found, ignore_index=True)

        hashes = [gates_hash(g) for g in gates.values()]
        made_from = [
            self.settings.strength,
            hashes,
            fingerprint(base),
            data_hash(self.texts),
            self.sides_hash(self.null_sides),
        ]
        return self.kept("divergence from the base", "divergence", made_from, make)

    @cached_property
    def dose_base(self) -> NeutralBase:
        """The texts that set doses, run once."""
        return neutral_base(self.model, self.texts)

    @cached_property
    def _damaging(self) -> Arm:
        """Half of all z elements turned down and the others up, at random, where that costs `DAMAGING_KL` nats a token
        of neutral text: damage that any measure of ability should see. (One scalar a layer would do nothing in models
        with a norm behind attention.)"""
        gates = GateSet.identity(self.model, input="static")
        stream = rng(self.settings.seed, "gates known to damage")
        with torch.no_grad():
            for layer in gates.layers:
                signs = torch.from_numpy(stream.choice([-1.0, 1.0], size=gates.gate(layer).bias.numel()))
                gates.gate(layer).bias.copy_(2 * torch.atanh(signs / FARTHEST))
        dose = matched_dose(self.model, gates, DAMAGING_KL, self.dose_base, sign=1)
        return Arm(gates=gates, strength=dose.strength or FARTHEST, seed=DAMAGING)

    def _damage(self, name: str, made_with: Any, arm: Callable[[], Arm]) -> pd.DataFrame:
        def make() -> pd.DataFrame:
            chosen = [arm()]
            there = [m for m, held in (("items", self.material.items), ("answers", self.material.answers)) if held]
            return pd.concat([collect(m, self.model, self.material, chosen) for m in there], ignore_index=True)

        records = stable_hash([[asdict(item) for item in self.material.items], self.sides_hash(self.material.answers)])
        file = f"{name.replace(' ', '-')}-damage"
        return self.kept(f"items and refusals, {name}", file, [made_with, records], make)

    def stance(
        self, title: str, file: str, sides: dict[str, Any], arms: list[Arm], gates: GateSet | None = None
    ) -> pd.DataFrame:
        """Stance margins of some pairs under some arms, whose gates are `gates`."""
        made_from = [[arm.columns() for arm in arms], gates and gates_hash(gates), self.sides_hash(sides)]
        return self.kept(title, file, made_from, lambda: collect("stance", self.model, self.with_sides(sides), arms))

    def kept(self, title: str, file: str, made_from: Any, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Any other table about this model, kept like the rest."""
        return self.stages.table(
            f"{self.name}: {title}", f"{self.name}/{file}.csv", [self._place, made_from], make, texts=TEXTS
        )

    def with_sides(self, sides: dict[str, Any]) -> Material:
        """The material with some of its pairs."""
        return replace(self.material, stance=sides)

    def sides_hash(self, sides: Mapping[str, Any]) -> str:
        """A sha256 over pairs and the answers of stance margins."""
        return stable_hash([{k: [asdict(p) for p in v] for k, v in sides.items()}, self.material.stance_answers])
