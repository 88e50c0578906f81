"""Tables of what gates could be mistaken for: null gates, exactly and by the thousand, and controls at equal dose."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import pandas as pd

from mechgate.analysis.attribution import Screen, screen
from mechgate.analysis.behaviour import Arm
from mechgate.data.pairs import data_hash
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs, neutral_inputs
from mechgate.gates.storage import gates_hash
from mechgate.model.prompts import collate, encode_response
from mechgate.referee.design import first_texts
from mechgate.referee.draws import (
    SIDES,
    TABLED,
    UnmatchedError,
    dosed_rows,
    draw_null,
    exact_nulls,
    recomputed_nulls,
    screened_nulls,
)
from mechgate.referee.tables import Tables

LEARNED = -1
"""The "draw" of the learned gates themselves in a table of screened nulls."""


class Rivals:
    """Null gates and controls on the model of `tables`, kept beside its other tables."""

    def __init__(self, tables: Tables):
        self.tables, self.model, self.settings, self.material = tables, tables.model, tables.settings, tables.material
        self.neutral_texts = first_texts(self.material, self.settings.neutral_texts)

    def dosed(
        self, name: str, make_gates: Callable[[], GateSet], wanted: float, made_from: Any, **columns: str
    ) -> pd.DataFrame:
        """Both sides at the strength with KL `wanted`, on the facts of the dose curve, with the columns `dose`, `kl`
        and `why`; a single row without a value where it cannot be matched, or the gates cannot be made."""

        def make() -> pd.DataFrame:
            try:
                gates = make_gates()
            except UnmatchedError as error:
                return pd.DataFrame([{"dose": None, "kl": None, "why": str(error), **columns}])
            dose, rows = dosed_rows(
                self.model,
                gates,
                self.tables.with_sides(self.tables.dose_sides),
                name=name,
                wanted=wanted,
                texts=self.tables.dose_base,
                sign=1 if self.settings.strength > 0 else -1,
            )
            if rows is None:
                return pd.DataFrame([{"dose": None, "kl": dose.reached, "why": dose.why, **columns}])
            return rows.assign(dose=dose.strength, kl=dose.reached, why="", **columns)

        inputs = [
            wanted,
            self.settings.strength,
            data_hash(self.tables.texts),
            self.tables.sides_hash(self.tables.dose_sides),
            made_from,
        ]
        return self.tables.kept(f"equal dose, {name}", f"{name}-dosed", inputs, make)

    def dosed_null(self, name: str, gates: GateSet, family: str, wanted: float) -> pd.DataFrame:
        """One draw of a null family at equal dose; `seed` is the gate set it was drawn from."""
        return self.dosed(
            f"{name}-{family}",
            lambda: draw_null(gates, family, 0, seed=self.settings.seed, neutral=self.neutral),
            wanted,
            [gates_hash(gates), family, self.settings.seed, data_hash(self.neutral_texts)],
            family=family,
        ).assign(seed=name)

    def dosed_control(self, task: str, name: str, gates: GateSet, wanted: float) -> pd.DataFrame:
        """A control set at equal dose."""
        return self.dosed(name, lambda: gates, wanted, gates_hash(gates), task=task).assign(seed=name)

    def null_band(self, name: str, gates: GateSet) -> pd.DataFrame:
        """One row-sign null of a gate set at the strengths of the bands, on the facts of the dose curve, with `why` ""
        as in `dosed`; or the one row `why` there is none."""
        try:
            null = draw_null(gates, "row-sign", 0, seed=self.settings.seed, neutral=self.neutral)
        except UnmatchedError as error:
            return pd.DataFrame([{"seed": name, "strength": 0.0, "why": str(error)}])
        arms = [Arm(gates=null, strength=s, seed=name) for s in self.settings.bands]
        rows = self.tables.stance(f"null band, {name}", f"{name}-null-band", self.tables.dose_sides, arms, null)
        return rows.assign(why="")

    def exact(self, name: str, gates: GateSet, family: str, draws: int) -> pd.DataFrame:
        """Exact draws of a null family (`referee.draws.exact_nulls`), or the one row `why` there are none."""
        make = partial(
            exact_nulls,
            self.model,
            gates,
            self.tables.null_sides,
            family,
            draws=draws,
            strength=self.settings.strength,
            seed=self.settings.seed,
            answers=self.material.stance_answers,
        )
        table = partial(self._drawn, gates, family, lambda: make(neutral=self.neutral, screened=self.null_screen))
        return self._null_table(f"{draws} exact {family} nulls, {name}", f"{name}-exact-{family}", gates, draws, table)

    def screened(self, name: str, gates: GateSet, family: str, draws: int) -> pd.DataFrame:
        """First-order draws of a null family (columns `wanted`, `unwanted`), draw -1 being the learned gates; or the
        row `why` there are none."""
        options: dict[str, Any] = dict(draws=draws, strength=self.settings.strength, seed=self.settings.seed)

        def make() -> pd.DataFrame:
            if family in TABLED:
                screens = self.side_screens
                found = screened_nulls(screens, gates, family, group=self.neutral.group, **options)
                own = [float(screens[side].effects(gates).mean()) for side in SIDES]
            else:
                cut = len(self.tables.null_sides["wanted"])
                found = recomputed_nulls(self.null_screen, cut, gates, family, neutral=self.neutral, **options)
                effects = self.null_screen.effects(gates)
                own = [float(part.mean()) for part in (effects[:cut], effects[cut:])]
            learned = [family, LEARNED, *(self.settings.strength * value for value in own)]
            return pd.concat([pd.DataFrame([learned], columns=found.columns), found], ignore_index=True)

        table = partial(self._drawn, gates, family, make)
        return self._null_table(f"{family} nulls screened, {name}", f"{name}-screened-{family}", gates, draws, table)

    def _drawn(self, gates: GateSet, family: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        try:
            draw_null(gates, family, 0, seed=self.settings.seed, neutral=self.neutral)
            return make()
        except UnmatchedError as error:  # whatever else goes wrong is an error
            return pd.DataFrame([{"family": family, "why": str(error)}])

    def _null_table(
        self, title: str, file: str, gates: GateSet, draws: int, make: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        s = self.settings
        made_from = [
            draws,
            s.strength,
            s.seed,
            data_hash(self.neutral_texts),
            gates_hash(gates),
            self.tables.sides_hash(self.tables.dose_sides),
            s.null_facts,
        ]
        return self.tables.kept(title, file, made_from, make)

    @cached_property
    def neutral(self) -> NeutralInputs:
        """What gates read on the first neutral texts: null gates are matched there."""
        rows = [encode_response(self.model, text) for text in self.neutral_texts]
        return neutral_inputs(self.model, collate(rows, next(self.model.original_model.parameters()).device))

    @cached_property
    def _screen(self) -> Screen:
        """One backward pass over both sides of the dose curve's facts: it serves every gate set and every null."""
        pairs = [pair for side in SIDES for pair in self.tables.dose_sides[side]]
        return screen(self.model, pairs, self.material.stance_answers)

    @cached_property
    def side_screens(self) -> dict[str, Screen]:
        """The screen, side by side."""
        n = len(self.tables.dose_sides["wanted"])
        return {"wanted": self._screen.only(range(n)), "unwanted": self._screen.only(range(n, 2 * n))}

    @cached_property
    def null_screen(self) -> Screen:
        """The screen of the prompts that exact nulls are measured on, the wanted side first."""
        order = {pair.id: i for i, pair in enumerate(p for side in SIDES for p in self.tables.dose_sides[side])}
        return self._screen.only([order[pair.id] for side in SIDES for pair in self.tables.null_sides[side]])
