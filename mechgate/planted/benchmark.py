"""The benchmark: plants of every kind, maps of every method on each, kept in a run folder and resumed from it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import stance_margins
from mechgate.planted.gates import planted_gates
from mechgate.planted.hosts import KINDS, draw_heads, load_plant, plant_host, truth_map
from mechgate.planted.methods import Maps, Scene, gate_maps, gate_sizes, scene_maps
from mechgate.planted.objectives import OBJECTIVES, trained_gates
from mechgate.planted.toy import HEADS, LAYERS, circuit_check, toy_world, used_heads
from mechgate.planted.world import Head, World, shipped_world
from mechgate.provenance import atomic_path, write_json
from mechgate.seeding import rng, stream_seed
from mechgate.stages import Stages
from mechgate.train.detectors import detectors
from mechgate.train.loop import TrainConfig

QUESTION = "How far can each method be trusted to find the heads that carry a behaviour?"
SMALL = "small"
_EFFECT = "effect of "
_ATTEMPTS, _CIRCUITS = 6, 3


class PlantSettings(BaseModel):
    """What `mechgate planted` does; unknown keys are errors.

    On "small" models trained here: for each of `bases` seeds a base model with plants of both kinds and every size in `sizes`,
    a model with a known circuit, and planted gates. On any other `model`: the first `plants` of these plants, no circuit.
    `seeds` redraw what gates are trained on (`examples` pairs of claims, at `lr`, `epochs` times) and probes are fitted on. Methods read
    `claims` held-out claims and patch `patched` of them. A plant (trained on `examples` claims at `plant_lr`, `plant_epochs` times) whose effect is below `least` nats is
    no truth: other heads are drawn, a few times; so are they for `circuits` unless the model is right on `apart` more of the claims with all
    other heads scrambled than with the circuit scrambled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = SMALL
    bases: int = Field(default=3, ge=2)
    sizes: tuple[int, ...] = (3, 6)
    plants: int = Field(default=3, ge=2)
    seeds: tuple[int, ...] = (0, 1)
    objectives: tuple[str, ...] = tuple(OBJECTIVES)
    examples: int = Field(default=40, ge=4)
    claims: int = Field(default=32, ge=6)
    patched: int = Field(default=6, ge=1)
    lr: float = 5e-3
    epochs: int = 4
    plant_lr: float = 2e-2
    plant_epochs: int = 12
    least: float = 1.0
    circuits: bool = True
    apart: float = 0.3
    draws: int = Field(default=10_000, ge=999)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One plant: its `kind` ("gates", "weights", "circuit", "planted gates"), the `base` it stands on, its `name`, the `truth`
    [n_layers, n_heads], what is known of it (`facts`), and `maps`: by method [seeds, n_layers, n_heads]."""

    kind: str
    base: int
    name: str
    truth: np.ndarray
    facts: dict[str, Any]
    maps: dict[str, np.ndarray]


def run_plants(folder: str | Path, settings: PlantSettings, *, say: Callable[[str], None] = print) -> list[Measured]:
    """Plant, measure, and hand back every plant with its maps; what is in `folder` and made from the same is reused.

    Raises `InputError` for plants that did not take (`settings.least`), and for objectives that are not there.
    """
    if wrong := set(settings.objectives) - set(OBJECTIVES):
        raise InputError("objectives that are not there", got=sorted(wrong), allowed=list(OBJECTIVES))
    stages = Stages(folder, say)
    if settings.model != SMALL:
        return list(_planted_hosts(stages, settings, shipped_world(settings.model), 0, settings.plants))
    found: list[Measured] = []
    for number in range(settings.bases):
        world = _small(stages, f"base-{number}", number, None)
        found += _planted_hosts(stages, settings, world, number, len(KINDS) * len(settings.sizes))
        found.append(_planted_gates(stages, settings, world, number))
    if settings.circuits:
        found += [_circuit(stages, settings, number) for number in range(settings.bases)]
    return found


def _small(stages: Stages, name: str, seed: int, heads: tuple[Head, ...] | None) -> World:
    stages.say(f"{name}: training, or reused where it is there ...")
    return toy_world(stages.folder / name, seed=seed, heads=heads)


def _planted_hosts(stages: Stages, settings: PlantSettings, world: World, number: int, n: int) -> Iterator[Measured]:
    base = world.load()
    wanted = [(kind, size) for size in settings.sizes for kind in KINDS][:n]
    if len(wanted) < n:
        wanted = [(KINDS[i % 2], settings.sizes[i // 2 % len(settings.sizes)]) for i in range(n)]
    for i, (kind, size) in enumerate(wanted):
        yield _planted_host(stages, settings, world, base, kind, size, number, i)


def _planted_host(
    stages: Stages, settings: PlantSettings, world: World, base: Any, kind: str, size: int, number: int, i: int
) -> Measured:
    """The first of a few draws of heads through which the behaviour can be planted at all; no method has a say in that."""
    effects = []
    for attempt in range(_ATTEMPTS):
        seed = 1000 * number + 10 * i + attempt
        heads, name = draw_heads(base, size, seed=seed), f"{kind}-{size}-heads-{number}-{i}-{attempt}"
        config = TrainConfig(seed=seed, lr=settings.plant_lr, epochs=settings.plant_epochs)
        inputs = [world.name, kind, heads, settings.plant_lr, settings.plant_epochs, settings.examples]

        def make(path: Path, heads: tuple[Head, ...] = heads, config: TrainConfig = config) -> None:
            plant_host(world, kind, heads, path, config=config, examples=settings.examples)

        path = stages.file(f"{name}: planting", name + ".safetensors" * (kind == "gates"), inputs, make)
        plant = load_plant(world, kind, heads, path, claims=settings.claims, base=base)
        stages.say(f"{name}: {plant.effect:+.2f} nats on held-out false claims, gap {plant.gap:.1e}")
        effects.append(plant.effect)
        if plant.effect >= settings.least:
            maps = _maps(stages, settings, world, name, plant.host, base, inputs, agrees=True)
            facts = {
                "heads": heads,
                "effect": plant.effect,
                "gap": plant.gap,
                "redrawn": attempt,
                "gates": _effects(maps),
            }
            return Measured(kind=kind, base=number, name=name, truth=plant.truth, facts=facts, maps=maps)
    raise InputError(
        f"no plant of kind {kind} in {size} heads took, so there is nothing to find",
        got=", ".join(f"{effect:+.2f}" for effect in effects) + " nats",
        allowed=f"at least {settings.least:g}",
        do="plant with a higher plant_lr, more plant_epochs or more heads",
    )


def _circuit(stages: Stages, settings: PlantSettings, number: int) -> Measured:
    """The first of a few draws of heads through which the task can be learned alone; true are those that it then uses."""
    checks: list[Any] = []
    for attempt in range(_CIRCUITS):
        seed, name = 10 * number + attempt, f"circuit-{number}-{attempt}"
        heads = circuit_heads(seed)
        world = _small(stages, name, seed, heads)
        used = used_heads(world, heads, seed=seed)
        if not used:
            checks.append("no head that is used")
            continue
        check = circuit_check(world, used, seed=seed)
        checks.append({key: round(share, 2) for key, share in check.items()})
        stages.say(f"{name}: right on {checks[-1]}")
        if check["others scrambled"] - check["heads scrambled"] >= settings.apart:
            model = world.load()
            maps = _maps(stages, settings, world, name, model, None, [heads], agrees=False)
            facts = {"heads": used, "trained": heads, **check, "redrawn": attempt, "gates": _effects(maps)}
            truth = truth_map(used, model)
            return Measured(kind="circuit", base=number, name=name, truth=truth, facts=facts, maps=maps)
    raise InputError(
        "no small model learned its task through its circuit alone, so there is nothing to find",
        got=checks,
        allowed=f"{settings.apart:g} more right with the others scrambled than with the circuit scrambled",
        do="run without circuits",
    )


def circuit_heads(seed: int) -> tuple[Head, ...]:
    """A circuit of six heads, drawn by `seed`: two in each of the first three layers, not of one group of keys and values."""
    draw = rng(seed, "planted", "circuit")
    found = []
    for layer in range(3):
        groups = draw.permutation(HEADS // 2)[:2]
        found += [(layer, int(head)) for head in sorted(2 * groups + draw.integers(2, size=2))]
    return tuple(found)


def _planted_gates(stages: Stages, settings: PlantSettings, world: World, number: int) -> Measured:
    """Selective gates on three heads of the upper half, decoys on three others, |g - 1| of the decoys as large."""
    base, name = world.load(), f"planted-gates-{number}"
    heads = draw_heads(base, 6, seed=1000 + number, lowest=LAYERS // 2)
    order = rng(number, "planted", "decoys").permutation(6)
    chosen, decoys = ([heads[i] for i in order[part]] for part in (slice(0, 3), slice(3, 6)))
    scene = _scene(settings, world, base, None)
    false, true = world.claims("train", settings.examples)
    layers = sorted({layer for layer, _ in chosen})
    said = [
        [pair.as_example(answer) for pair in side for answer in ("matching", "not_matching")] for side in (false, true)
    ]
    found = detectors(base, said[0], [said[1]], layers)
    alone = gate_sizes(scene, planted_gates(base, chosen, found), strength=1.0)["|g − 1|"]
    as_large = 2 * float(np.arctanh(alone[truth_map(chosen, base)].mean()))
    gates = planted_gates(base, chosen, found, decoys=decoys, decoy_size=as_large)

    def make(path: Path) -> None:
        maps = gate_maps(scene, gates, strength=1.0)
        _write(path, {f"{key}, planted gates": value[None] for key, value in maps.items()})

    maps = _read(stages.file(f"{name}: maps", f"{name}.npz", [world.name, chosen, decoys, *_read_by(settings)], make))
    facts = {"heads": chosen, "decoys": decoys}
    return Measured(kind="planted gates", base=number, name=name, truth=truth_map(chosen, base), facts=facts, maps=maps)


def _maps(
    stages: Stages,
    settings: PlantSettings,
    world: World,
    name: str,
    model: Any,
    base: Any,
    inputs: Any,
    *,
    agrees: bool,
) -> dict[str, np.ndarray]:
    scene = _scene(settings, world, model, base)
    several: list[Maps] = []
    for seed in settings.seeds:

        def make(path: Path, seed: int = seed) -> None:
            maps = scene_maps(scene, seed=stream_seed(seed, name))
            false, true = world.drawn(settings.examples, seed=seed)
            config = TrainConfig(seed=seed, lr=settings.lr, epochs=settings.epochs)
            for objective in settings.objectives:
                where = base if objective == "base-trained" else model
                if where is None:  # a circuit has no base
                    continue
                gates, strength = trained_gates(where, objective, false, true, config, agrees=agrees)
                own = _scene(settings, world, where, None)
                sizes = gate_sizes if objective != settings.objectives[0] else gate_maps
                maps |= {
                    f"{key}, {objective} gates": value for key, value in sizes(own, gates, strength=strength).items()
                }
                maps[_EFFECT + objective] = np.array(_effect(own, gates, strength))
            _write(path, maps)

        key = [inputs, seed, settings.objectives, settings.lr, settings.epochs, *_read_by(settings)]
        several.append(_read(stages.file(f"{name}, seed {seed}: maps", f"{name}-maps-{seed}.npz", key, make)))
    return {key: np.stack([maps[key] for maps in several]) for key in several[0]}


def _effects(maps: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """What the gates of each objective did, by seed, taken out of the maps."""
    return {key.removeprefix(_EFFECT): maps.pop(key).tolist() for key in list(maps) if key.startswith(_EFFECT)}


def _effect(scene: Scene, gates: GateSet, strength: float) -> float:
    """Mean change of the stance margin on the scene's false claims: gates that do nothing cannot point at anything."""
    answers = list(scene.answers)
    before = stance_margins(scene.model, scene.false, answers, label=None)
    with gates.attached(scene.model, strength):
        return float((stance_margins(scene.model, scene.false, answers, label=None) - before).mean())


def _scene(settings: PlantSettings, world: World, model: Any, base: Any) -> Scene:
    false, true = world.claims("test", settings.claims)
    return Scene(model=model, base=base, false=false, true=true, answers=world.answers, patched=settings.patched)


def _read_by(settings: PlantSettings) -> list[Any]:
    return [settings.claims, settings.patched, settings.examples]


def _write(path: Path, maps: dict[str, Any]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **maps)


def _read(path: Path) -> Maps:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def write_measured(found: list[Measured], path: str | Path) -> Path:
    """Truths and maps of all plants as one JSON file, for whoever wants other numbers of them."""
    plain = [
        {**vars(one), "truth": one.truth.tolist(), "maps": {k: v.tolist() for k, v in one.maps.items()}}
        for one in found
    ]
    return write_json(Path(path), {"plants": plain})
