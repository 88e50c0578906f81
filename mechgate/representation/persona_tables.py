"""What is measured for persona vectors: replies and their states, steering, displacements by gates; each kept and reused."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mechgate.analysis.personas import Direction
from mechgate.data.pairs import Example, Pair
from mechgate.data.sets import neutral_texts
from mechgate.data.traits import BAD, TRAITS, Trait, trait_pairs
from mechgate.errors import InputError, check_choice
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import gates_hash
from mechgate.measure.activations import POSITIONS, STREAM, activations_at
from mechgate.measure.margins import stance_margins
from mechgate.measure.personas import save_personas
from mechgate.measure.traits import GATE_INPUT, READ, TraitStates, trait_replies, trait_states
from mechgate.model.loading import fingerprint
from mechgate.model.sites import shape_of
from mechgate.model.steering import SteeringDial
from mechgate.provenance import atomic_path, write_json
from mechgate.representation.comparison import matched_claims, null_arms
from mechgate.seeding import rng, stream_seed
from mechgate.stages import Stages
from mechgate.stats.directions import gaussian_weights
from mechgate.stats.permutation import FEWEST_NULLS

_POOL = 64  # replies of each trait that null directions are made from


class PersonaSettings(BaseModel):
    """What `mechgate personas` does; unknown keys are errors.

    Vectors of `traits` from replies of `max_new_tokens` tokens (greedy at `temperature` 0) to `questions` questions
    under `instructions` pairs of system messages. Each is checked by steering at layer `steer_layer` (None: the middle
    one) with its own length, on `steer_questions` held-out questions beside `steer_nulls` null directions. Gates act at
    `strength`; what they move is read at `position` of claims on `facts` facts (None: all of `split`). `nulls` null
    gates a family are made of the first gate set; `permutations` null directions; `directions` top right-singular
    vectors of W are what a gate reads.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    traits: tuple[str, ...] = TRAITS
    instructions: int = Field(default=5, ge=1, le=5)
    questions: int = Field(default=20, ge=2, le=20)
    max_new_tokens: int = Field(default=32, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    steer_layer: int | None = Field(default=None, ge=0)
    steer_questions: int = Field(default=8, ge=2, le=20)
    steer_nulls: int = Field(default=FEWEST_NULLS, ge=FEWEST_NULLS)
    strength: float = -1.0
    split: str = "test"
    facts: int | None = Field(default=64, ge=32)
    position: str = "last"
    nulls: int = Field(default=3, ge=1)
    permutations: int = Field(default=1000, ge=99)
    directions: int = Field(default=4, ge=1)
    seed: int = 0

    @field_validator("traits")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            check_choice("traits", name, TRAITS)
        if not value or len(set(value)) < len(value):
            raise InputError("traits must be some, each once", got=value, allowed=TRAITS)
        return value

    @field_validator("position")
    @classmethod
    def _readable(cls, value: str) -> str:
        check_choice("position", value, POSITIONS)
        return value


class PersonaTables:
    """States of replies and of claims. `arms` are the gate sets, their nulls and controls; `facts` are in two disjoint
    parts where there are hosts: what gates move is read on one, hosts' directions on the other."""

    def __init__(
        self,
        model: Any,
        gates: Mapping[str, GateSet],
        hosts: Mapping[str, Any],
        controls: Mapping[str, GateSet],
        settings: PersonaSettings,
        stages: Stages,
    ):
        self.model, self.gates, self.hosts, self.controls = model, gates, hosts, controls
        self.settings, self.stages = settings, stages
        n_layers = shape_of(model).n_layers
        self.steer_layer = n_layers // 2 if settings.steer_layer is None else settings.steer_layer
        check_choice("steer_layer", self.steer_layer, tuple(range(n_layers)))
        false, true = matched_claims(settings.split, settings.facts)
        cut = len(false) // 2 if hosts else len(false)
        order = rng(settings.seed, "personas", "facts").permutation(len(false)).tolist()
        self.sides = {"false": [false[i] for i in order[:cut]], "true": [true[i] for i in order[:cut]]}
        self.apart = [false[i] for i in order[cut:]]
        first = next(iter(gates.values()))
        draws = {"row-sign": settings.nulls, "haar": settings.nulls if first.input == "linear" else 0}
        texts: list[str | Example] = list(neutral_texts(settings.split).values())
        self.nulls = null_arms(model, first, texts, draws=draws, purpose="personas", seed=settings.seed)
        self.arms = {**gates, **self.nulls, **controls}
        self._kept: dict[str, dict[tuple[str, str], np.ndarray]] = {}

    def states(self, trait: Trait) -> TraitStates:
        """Replies of a trait and what the model holds of them."""
        s, file = self.settings, f"{trait.name}-replies.json"
        few = {"instructions": s.instructions, "questions": s.questions}
        drawn = {"max_new_tokens": s.max_new_tokens, "temperature": s.temperature, "seed": s.seed}
        key = [fingerprint(self.model), repr(trait), few, drawn]

        def reply(path: Path) -> None:
            write_json(path, trait_replies(self.model, trait, **few, **drawn, label=None))  # type: ignore[arg-type]

        kept = self.stages.file(f"{trait.name}: replies", f"traits/{file}", key, reply)
        replies = json.loads(kept.read_text(encoding="utf-8"))

        def read(path: Path) -> None:
            found = trait_states(self.model, trait, replies, **few, label=None)
            values = {f"stream/{name}": x for name, x in found.stream.items()}
            values |= {f"read/{name}": x for name, x in found.read.items()}
            more = {"questions": found.questions, "instructions": found.instructions, "empty": np.array(found.empty)}
            _save(path, **values, **more)
            for variant in READ:
                save_personas(found.vectors(self.model, variant), self.stages.folder / "vectors", empty=found.empty)

        file = f"traits/{trait.name}-states.npz"
        values = np.load(self.stages.file(f"{trait.name}: states", file, [key, replies], read))
        return TraitStates(
            trait=trait.name,
            stream={name: values[f"stream/{name}"] for name in READ},
            read={name: values[f"read/{name}"] for name in READ},
            questions=values["questions"],
            instructions=values["instructions"],
            empty=int(values["empty"]),
        )

    def pool(self, states: Mapping[str, TraitStates]) -> tuple[np.ndarray, np.ndarray]:
        """Activations that null directions are made from: some replies of every trait, both sides, [rows, layers, d] of
        what blocks leave and of what gates read."""
        variant = next(iter(READ))
        parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for name, one in states.items():
            both = [one.stream[variant][:, :, 1:], one.read[variant]]
            n = 2 * both[0].shape[1]
            at = rng(self.settings.seed, "personas", "pool", name).permutation(n)[:_POOL]
            for part, values in zip(parts, both, strict=True):
                part.append(values.reshape(n, *values.shape[2:])[at])
        return np.concatenate(parts[0]), np.concatenate(parts[1])

    def steered(self, trait: Trait, vector: np.ndarray, pool: np.ndarray) -> np.ndarray:
        """Half of the difference of the trait's margin (nats) between steering along and against a direction, at the steering
        layer: [1 + steer_nulls, questions], the vector's own first, then null directions of its length."""
        s = self.settings
        pairs = trait_pairs(trait)[: s.steer_questions]
        weights = gaussian_weights(len(pool), s.steer_nulls, seed=stream_seed(s.seed, "steer", trait.name))
        length = float(np.linalg.norm(vector))
        drawn = weights @ pool.astype(np.float64)
        ways = [vector, *(drawn * (length / np.linalg.norm(drawn, axis=1, keepdims=True)))]

        def make(path: Path) -> None:
            rows = []
            for way in ways:
                dial, values = SteeringDial({self.steer_layer: way}), []
                for strength in (1.0, -1.0):
                    with dial.attached(self.model, strength):
                        values.append(stance_margins(self.model, pairs, trait.answers, label=None).mean(axis=1))
                rows.append((values[0] - values[1]) / 2)
            _save(path, rows=np.array(rows))

        key = [fingerprint(self.model), repr(trait), self.steer_layer, vector.tolist(), s.steer_questions, s.seed]
        file = f"traits/{trait.name}-steering.npz"
        return np.load(self.stages.file(f"{trait.name}: steering", file, [key, len(ways), float(pool.sum())], make))[
            "rows"
        ]

    def claims(self, arm: str, side: str, model: str = "", *, apart: bool = False) -> dict[tuple[str, str], np.ndarray]:
        """States of one side's claims under an arm ("": no gates) or in a host: the stream at the settings' position, and
        what gates read there and at the last token."""
        pairs = self.apart if apart else self.sides[side]
        at = self.settings.position
        where = list(dict.fromkeys([(STREAM, at), (GATE_INPUT, at), (GATE_INPUT, "last")]))
        if arm:
            where = where[:1]
        asked: list[Pair | Example] = [p.as_example("matching") if at == "response" else p for p in pairs]
        where_from = self.hosts[model] if model else self.model

        def make(path: Path) -> None:
            with self.arms[arm].attached(self.model, self.settings.strength) if arm else nullcontext():
                found = activations_at(where_from, asked, where, label=None)
            _save(path, **{"/".join(name): values for name, values in found.items()})

        strength = self.settings.strength if arm else 0.0
        key = [fingerprint(where_from), arm and gates_hash(self.arms[arm]), strength, where, [repr(p) for p in asked]]
        part = "apart" if apart else side
        title = f"claims, {model or arm or 'base'}, {part}"
        name = f"claims/{model or arm or 'base'}-{part}.npz".replace(" ", "-")
        if (kept := self._kept.get(name)) is not None:
            return kept
        values = np.load(self.stages.file(title, name, key, make))
        found = {one: values["/".join(one)] for one in where}
        if not arm:  # all arms are compared with these
            self._kept[name] = found
        return found

    def moved(self, arm: str, side: str) -> np.ndarray:
        """What an arm adds to what each block leaves: gated minus base, [facts, layers, d_model]."""
        at = (STREAM, self.settings.position)
        return (self.claims(arm, side)[at] - self.claims("", side)[at])[:, 1:]

    def trait_direction(self, trait: Trait, states: TraitStates, steers: bool | None) -> Direction:
        """A trait's rows, all variants."""
        groups = {"questions": states.questions, "system messages": states.instructions}
        return Direction(
            name=trait.name,
            kind="misbehaviour" if trait.name in BAD else "unrelated",
            write={variant: states.differences(variant)[:, 1:] for variant in READ},
            read=states.differences(next(iter(READ)), read=True),
            groups={name: of for name, of in groups.items() if len(np.unique(of)) > 1},
            steers=steers,
        )

    def host_direction(self, host: str) -> Direction:
        """What a host holds more of than the base, on false claims of the other facts."""
        at = self.settings.position
        here, base = self.claims("", "false", host, apart=True), self.claims("", "false", apart=True)
        rows = here[STREAM, at] - base[STREAM, at]
        return Direction(
            name=f"{host} minus base",
            kind="host",
            write={"difference of means": rows[:, 1:]},
            read=here[GATE_INPUT, at] - base[GATE_INPUT, at],
            groups={"questions": np.arange(len(rows))},
        )


def _save(path: Path, **values: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **values)  # type: ignore[arg-type]
