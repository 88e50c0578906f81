"""What else turns the behaviour down, and what does it cost? Gates beside other interventions at equal efficacy.

An intervention is a dial (gates, a LoRA adapter scaled by a number, also a negative one, steering along a persona
vector, directional ablation) or a system message, which has no dial. The strength of each dial is chosen on development
facts, so that it moves the wanted side as far as the gates do; what it does to the other side and to abilities is
measured there on the test facts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechgate.analysis.behaviour import Arm, Material, collect
from mechgate.analysis.dose import MatchedDose, matched_strength
from mechgate.data.pairs import data_hash
from mechgate.errors import InputError
from mechgate.measure.personas import read_personas
from mechgate.model.dials import Dial
from mechgate.model.loading import fingerprint
from mechgate.model.sites import shape_of
from mechgate.model.steering import AblationDial, SteeringDial
from mechgate.provenance import file_sha256, stable_hash
from mechgate.referee.summary import axis_at
from mechgate.referee.tables import TEXTS
from mechgate.stages import Stages
from mechgate.stats.estimates import bootstrap_mean, bootstrap_ratio

MEASURED = ("stance", "items", "neutral")
_LEAP = 1.5
"""A larger step from one strength to the next could pass the top of what an adapter does before it breaks the model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervention:
    """One way to change the behaviour: a `dial` on `model`, or the message `system` alone on it.

    `name` is the kind, shared by training seeds; `seed` tells those apart. `key` stands for the weights in what is kept
    (a file's hash). `strength` is fixed for the intervention that the others are matched to, and None for these.
    """

    name: str
    seed: str
    model: Any
    key: str = ""
    dial: Dial | None = None
    system: str | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if (self.dial is None) == (self.system is None) or (self.dial is None and self.strength is not None):
            raise InputError(
                "an intervention is a dial or a system message, and only a dial has a strength",
                got=f"{self.name}: dial {self.dial is not None}, message {self.system is not None}",
            )


def persona_ways(model: Any, path: str | Path, layer: int | None = None) -> list[Intervention]:
    """Steering along a persona vector behind one block (None: the middle one), and taking its direction out behind every one.

    `path` is a file of the public format; ablation takes the same direction everywhere (Arditi et al. 2024, arXiv
    2406.11717). Raises as `read_personas` and `PersonaVectors.after_block` do.
    """
    shape = shape_of(model)
    found = read_personas(path, shape)
    chosen = shape.n_layers // 2 if layer is None else layer
    vector = found.after_block(chosen)
    dials = {
        "steering": SteeringDial({chosen: vector}),
        "ablation": AblationDial(dict.fromkeys(range(shape.n_layers), vector)),
    }
    key = stable_hash([file_sha256(Path(path)), chosen])
    seed = f"{found.trait}-layer-{chosen}"
    return [Intervention(name=name, seed=seed, model=model, key=key, dial=dial) for name, dial in dials.items()]


def baselines(
    base: Any,
    ways: Sequence[Intervention],
    develop: Material,
    test: Material,
    stages: Stages,
    *,
    direction: int = -1,
    seed: int = 0,
) -> dict[str, Any]:
    """Numbers of every intervention on the model `base`, by name, as plain JSON values.

    Those with a fixed strength are the reference: the mean size of their change of the wanted side on `develop` (in
    `direction`, -1 or +1) is what every other dial is matched to, in the sign of strength that has the larger change
    that way at size 1. `test` gives what is reported: `axis` (E, A, sigma in nats, over seeds and facts), `spared` (the
    change of the four-choice margin, nats a token; the perplexity ratio of chat and prose; KL from the base on chat,
    nats a token, None for a system message: another conversation), each seed's `sets`, and `unmatched` with the
    reasons.

    Raises `InputError` without a reference, or where that does nothing in the direction.
    """
    fixed = [way for way in ways if way.strength is not None]
    if not fixed or direction not in (-1, 1):
        raise InputError(
            "interventions are matched to one with a fixed strength, in direction -1 or 1",
            got=f"{len(fixed)} with a strength, direction {direction}",
        )
    desk = _Desk(base, stages)
    begin = desk.rows("stance", None, develop, None, "dev")
    moved = [direction * _effect(desk.rows("stance", way, develop, way.strength, "dev"), begin) for way in fixed]
    wanted = float(np.mean(moved))
    if wanted <= 0:
        raise InputError("the reference does not move the wanted side in that direction", got=f"{wanted:+.2f} nats")
    start = {measure: desk.rows(measure, None, test, None, "test") for measure in MEASURED}
    numbers: dict[str, Any] = {"wanted": wanted, "direction": direction, "develop facts": int(begin["fact"].nunique())}
    groups: dict[str, list[Intervention]] = {}
    for way in ways:
        groups.setdefault(way.name, []).append(way)
    numbers["ways"] = {}
    for name, group in groups.items():
        doses = {way.seed: desk.dose(way, develop, begin, wanted, direction) for way in group}
        there = [way for way in group if doses[way.seed].strength is not None or way.system is not None]
        entry: dict[str, Any] = {
            "doses": {way.seed: _plain(doses[way.seed]) for way in group},
            "unmatched": [f"{way.seed}: {doses[way.seed].why}" for way in group if way not in there],
            "axis": None,
        }
        if there:
            rows = {
                m: pd.concat([desk.rows(m, w, test, doses[w.seed].strength, "test") for w in there]) for m in MEASURED
            }
            entry |= _numbers(rows, start, direction, seed, told=group[0].system is not None)
        numbers["ways"][name] = entry
    return numbers


class _Desk:
    """Measures interventions and keeps every table."""

    def __init__(self, base: Any, stages: Stages):
        self.base, self.stages = base, stages

    def rows(
        self, measure: str, way: Intervention | None, material: Material, strength: float | None, split: str
    ) -> pd.DataFrame:
        """Rows of `collect` under an intervention (None: the base as it is)."""
        model = self.base if way is None else way.model
        told = material if way is None or way.system is None else replace(material, system=way.system)
        arm = Arm() if way is None or way.dial is None else Arm(gates=way.dial, strength=float(strength or 0.0))

        def make() -> pd.DataFrame:
            return collect(measure, model, told, [arm], base=None if model is self.base else self.base)

        name = "base" if way is None else f"{way.name}-{way.seed}"
        at = "" if strength is None else f", strength {strength:+.3g}"
        key = [way and [way.key, way.system], fingerprint(self.base), strength, measure, _hashes(measure, material)]
        file = f"{split}/{name}-{measure}.csv"
        table = self.stages.table(f"{name}, {split}: {measure}{at}", file, key, make, texts=TEXTS)
        return table.assign(seed="" if way is None else way.seed)

    def dose(
        self, way: Intervention, develop: Material, begin: pd.DataFrame, wanted: float, direction: int
    ) -> MatchedDose:
        """The strength of an intervention: its own, the matched one, or none for a message."""
        if way.system is not None:
            return MatchedDose(strength=None, reached=math.nan, wanted=wanted, why="a message has no strength")
        if way.strength is not None:
            return MatchedDose(strength=way.strength, reached=wanted, wanted=wanted)

        def moved(strength: float) -> float:
            rows = collect("stance", way.model, develop, [Arm(gates=way.dial, strength=strength)])
            return direction * _effect(rows, begin) + 0.0  # no negative zero

        def make() -> pd.DataFrame:
            sign = 1 if moved(1.0) >= moved(-1.0) else -1
            return pd.DataFrame([asdict(matched_strength(moved, wanted, what="effect", sign=sign, leap=_LEAP))])

        key = [way.key, fingerprint(self.base), wanted, direction, _hashes("stance", develop)]
        title, file = f"{way.name}-{way.seed}: strength of equal effect", f"dev/{way.name}-{way.seed}-dose.csv"
        row = self.stages.table(title, file, key, make, texts=TEXTS).iloc[0]
        found = None if pd.isna(row["strength"]) else float(row["strength"])
        return MatchedDose(strength=found, reached=float(row["reached"]), wanted=wanted, why=str(row["why"]))


def _plain(dose: MatchedDose) -> dict[str, Any]:
    """A dose for JSON, which has no NaN: a message reached no size that it was matched by."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(dose).items()}


def _hashes(measure: str, material: Material) -> Any:
    parts: Mapping[str, Any] = {
        "stance": [{k: [asdict(p) for p in pairs] for k, pairs in material.stance.items()}, material.stance_answers],
        "items": [asdict(item) for item in material.items],
        "neutral": data_hash(list(material.texts.values())),
    }
    return stable_hash(parts[measure])


def _effect(rows: pd.DataFrame, begin: pd.DataFrame) -> float:
    """Mean change of the wanted side from `begin`, over the same prompts."""
    here, before = (part[part["set"] == "wanted"].set_index("id")["value"] for part in (rows, begin))
    return float((here - before.loc[here.index]).mean())


def _numbers(
    rows: Mapping[str, pd.DataFrame], start: Mapping[str, pd.DataFrame], direction: int, seed: int, *, told: bool
) -> dict[str, Any]:
    stance = rows["stance"].assign(strength=float(direction))  # each set at its own dose, in one direction
    found = axis_at(stance, start["stance"], float(direction), seed=seed)
    sets = {
        name: {side: _mean_change(part[part["set"] == side], start["stance"]) for side in ("wanted", "unwanted")}
        for name, part in stance.groupby("seed")
    }
    items = _changes(rows["items"], start["items"], "value")
    spared: dict[str, Any] = {
        "four-choice margin": bootstrap_mean(items["change"].to_numpy(), items["id"].to_numpy(), seed=seed).to_json(),
        "four-choice accuracy": float(rows["items"]["right"].mean()),
    }
    for kind in ("chat", "prose"):
        here, before = (
            part[part["set"] == kind].assign(rate=lambda t: t["nll"] / t["tokens"])
            for part in (rows["neutral"], start["neutral"])
        )
        moved = _changes(here, before, "rate")
        estimate = bootstrap_mean(moved["change"].to_numpy(), moved["id"].to_numpy(), seed=seed)
        spared[f"perplexity ratio, {kind}"] = {
            **estimate.to_json(),
            **{end: math.exp(getattr(estimate, end)) for end in ("value", "low", "high")},
        }
    spared["KL, chat"] = None
    if not told:
        chat = rows["neutral"][rows["neutral"]["set"] == "chat"]
        kl = bootstrap_ratio(chat["kl"].to_numpy(), chat["tokens"].to_numpy(float), chat["id"].to_numpy(), seed=seed)
        spared["KL, chat"] = kl.to_json()
    return {
        "axis": found.to_json(),
        "sets": sets,
        "facts": int(stance["fact"].nunique()),
        "spared": spared,
        "records": {measure: int(part["id"].nunique()) for measure, part in rows.items()},
    }


def _changes(rows: pd.DataFrame, start: pd.DataFrame, column: str) -> pd.DataFrame:
    """Changes of a column from the base, record by record: the mean over seeds."""
    before = start.set_index("id")[column]
    moved = rows.assign(change=rows[column].to_numpy() - before.loc[rows["id"]].to_numpy())
    return moved.groupby("id", sort=False)["change"].mean().reset_index()


def _mean_change(rows: pd.DataFrame, start: pd.DataFrame) -> float:
    before = start.set_index("id")["value"]
    return float((rows["value"].to_numpy() - before.loc[rows["id"]].to_numpy()).mean())
