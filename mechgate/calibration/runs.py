"""Tables of simulations, kept chunk by chunk in a run folder: what was interrupted goes on, and more can be added."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from mechgate.calibration.models import null_p_values
from mechgate.calibration.verdicts import DRAWS, simulations
from mechgate.calibration.worlds import Components, Design, World
from mechgate.stages import Stages

CHUNK = 20


def world_table(
    stages: Stages, world: World, components: Components, design: Design, *, n: int, seed: int
) -> pd.DataFrame:
    """`n` simulations of a world (rounded up to whole chunks of 20), each a row of `verdicts.simulate`."""
    name = world.name.replace(", ", "-").replace(" ", "-")
    made_from = [asdict(world) | {"wrong": sorted(world.wrong)}, asdict(design), asdict(components), seed, DRAWS]
    tables = [
        stages.table(
            f"{world.name}, simulations {first} to {first + CHUNK - 1}",
            f"{name}/{first}.csv",
            [first, CHUNK, *made_from],
            lambda first=first: simulations(world, components, design, n=CHUNK, seed=seed, first=first),
            texts=["outcome"],
        )
        for first in range(0, n, CHUNK)
    ]
    return pd.concat(tables, ignore_index=True)


def power_tables(
    stages: Stages,
    components: Components,
    designs: Sequence[Design],
    sigmas: Sequence[float],
    *,
    effect: float,
    n: int,
    seed: int,
) -> dict[tuple[Design, float], pd.DataFrame]:
    """`world_table` of every design and true sigma, with an effect of `effect` nats and no damage."""
    acts = World(name="power", what="power", effect=effect, sigma=0, size=-effect, wrong=frozenset())
    found = {}
    for design in designs:
        for sigma in sigmas:
            name = f"power, {design.sets} sets, {design.facts} facts, sigma {sigma}"
            world = replace(acts, sigma=sigma, name=name)
            found[design, sigma] = world_table(stages, world, components, design, n=n, seed=seed)
    return found


def model_tables(
    stages: Stages, make_model: Callable[[int], Any], made_from: Any, *, n: int, seed: int
) -> list[pd.DataFrame]:
    """A table of `models.null_p_values` a model, 20 gate sets on each, `n` in all (rounded up). `make_model` takes the model's
    number, and `made_from` says what it makes them from."""
    return [
        stages.table(
            f"null gates on model {i}",
            f"models/{i}.csv",
            [CHUNK, seed, made_from],
            lambda i=i: null_p_values(make_model, model_seed=i, n=CHUNK, seed=seed),
        )
        for i in range(-(-n // CHUNK))
    ]
