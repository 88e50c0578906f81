"""The models that are compared: without gates, with each gate set at each strength, and with its rivals at equal dose."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from mechgate.analysis.dose import MatchedDose, matched_dose, neutral_kl
from mechgate.data.pairs import data_hash
from mechgate.data.sets import neutral_texts
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs, neutral_inputs
from mechgate.gates.nulls import FAMILIES, null_gates
from mechgate.gates.storage import gates_hash
from mechgate.measure.capability import NeutralBase, neutral_base
from mechgate.model.loading import fingerprint
from mechgate.model.prompts import collate, encode_response
from mechgate.representation.settings import SimilaritySettings
from mechgate.seeding import stream_seed
from mechgate.stages import Stages

KINDS = ("gates", "null", "control")


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """Gates that `make` gives, attached at `dose`: one of `KINDS`, compared at `strength` (which is the dose of the
    judged gates). `key` stands for the gates in what is kept."""

    kind: str
    name: str
    strength: float
    dose: float
    key: Any
    make: Callable[[], GateSet]

    def attached(self, model: Any) -> AbstractContextManager[Any]:
        """The model with the gates, for as long as the block."""
        return self.make().attached(model, self.dose)


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """The model without gates."""

    kind: str = "base"
    name: str = "base"
    key: Any = None
    dose: float = 0.0

    def attached(self, _: Any) -> AbstractContextManager[Any]:
        """The model as it is."""
        return nullcontext()


class Arms:
    """All arms of a run; doses are kept in `stages`. `unmatched` says, by name, which rivals have no equal dose."""

    def __init__(
        self,
        model: Any,
        gates: Mapping[str, GateSet],
        controls: Mapping[str, Mapping[str, GateSet]],
        settings: SimilaritySettings,
        stages: Stages,
    ):
        self.model, self.gates, self.settings, self.stages = model, gates, settings, stages
        self.controls = {name: one for group in controls.values() for name, one in group.items()}
        self.texts = list(neutral_texts(settings.split).values())[: settings.neutral_texts]
        self.unmatched: dict[str, str] = {}
        self.doses: list[dict[str, Any]] = []

    def all(self) -> list[Arm]:
        """Every arm, strength by strength: gates first."""
        found = []
        for s in self.settings.strengths:
            for name, one in self.gates.items():
                found.append(
                    Arm(kind="gates", name=name, strength=s, dose=s, key=gates_hash(one), make=lambda one=one: one)
                )
            for name, one in self.gates.items():
                found += self._nulls(name, one, s)
            wanted = {name: self._kl(name, one, s) for name, one in self.gates.items()}
            for name, one in self.controls.items():
                mean = sum(wanted.values()) / len(wanted)
                found += self._dosed("control", name, s, mean, gates_hash(one), lambda one=one: one)
        return found

    def _nulls(self, name: str, gates: GateSet, s: float) -> list[Arm]:
        found, wanted = [], self._kl(name, gates, s)
        for family in self.settings.null_families:
            for draw in range(
                self.settings.null_draws if FAMILIES[family].seeded else min(1, self.settings.null_draws)
            ):
                seed = stream_seed(self.settings.seed, "similarity null", family, draw)

                def make(family: str = family, seed: int = seed) -> GateSet:
                    return null_gates(gates, family=family, seed=seed, batch=self.neutral)

                title = f"{name}, {family} {draw}"
                found += self._dosed("null", title, s, wanted, [gates_hash(gates), family, seed], make)
        return found

    def _dosed(self, kind: str, name: str, s: float, wanted: float, key: Any, make: Callable[[], GateSet]) -> list[Arm]:
        """The arm at equal dose, or none with the reason in `unmatched`."""

        def search() -> pd.DataFrame:
            if wanted <= 0:
                why = f"the gates leave neutral text as it is (KL {wanted:.3g})"
                return pd.DataFrame([asdict(MatchedDose(strength=None, reached=0.0, wanted=wanted, why=why))])
            try:
                gates = make()
            except InputError as error:
                return pd.DataFrame([asdict(MatchedDose(strength=None, reached=0.0, wanted=wanted, why=str(error)))])
            found = matched_dose(self.model, gates, wanted, self.neutral_base, sign=1 if s > 0 else -1)
            return pd.DataFrame([asdict(found)])

        row = self._kept(f"equal dose, {name}, s = {s:+g}", f"{kind}-{name}-at{s:+g}", [key, s, wanted], search)
        place = f"{name} at s = {s:+g}"
        self.doses.append({"kind": kind, "name": name, "strength": s, "KL": float(row["reached"]), "why": row["why"]})
        if pd.isna(row["strength"]):
            self.unmatched[place] = str(row["why"])
            return []
        dose = float(row["strength"])
        self.doses[-1]["dose"] = dose
        return [Arm(kind=kind, name=name, strength=s, dose=dose, key=key, make=make)]

    def _kl(self, name: str, gates: GateSet, s: float) -> float:
        """How far the gates move neutral texts: KL from the model without them, nats a token."""

        def measure() -> pd.DataFrame:
            return pd.DataFrame([{"kl": neutral_kl(self.model, gates, [s], self.neutral_base)[0], "why": ""}])

        return float(
            self._kept(f"dose, {name}, s = {s:+g}", f"gates-{name}-at{s:+g}", [gates_hash(gates), s], measure)["kl"]
        )

    def _kept(self, title: str, file: str, key: Any, make: Callable[[], pd.DataFrame]) -> pd.Series:
        inputs = [fingerprint(self.model), data_hash(self.texts), key]
        return self.stages.table(title, f"doses/{file}.csv", inputs, make, texts=("why",)).iloc[0]

    @cached_property
    def neutral_base(self) -> NeutralBase:
        """What the model without gates makes of the neutral texts."""
        return neutral_base(self.model, self.texts)

    @cached_property
    def neutral(self) -> NeutralInputs:
        """What gates read on the neutral texts: null gates are matched there."""
        rows = [encode_response(self.model, text) for text in self.texts]
        return neutral_inputs(self.model, collate(rows, next(self.model.original_model.parameters()).device))
