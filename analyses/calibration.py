"""Is the instrument itself right? Error rates, p-values and intervals where the truth is known, and power.

    python analyses/calibration.py                  # or: make calibrate
    python analyses/calibration.py --redraw         # the figure alone, from figures/calibration.json

Whole verdicts are simulated in null worlds whose variations are those of a real analysis (--components), through the
functions that `mechgate selectivity` uses; tests of null gates are run on tiny random models. Tables are kept in FOLDER, so
that an interrupted run goes on and more simulations can be added. `--part none` puts together what FOLDER holds. Writes FIGURE.png, .svg and .json.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mechgate.calibration.models import TESTS
from mechgate.calibration.runs import model_tables, power_tables, world_table
from mechgate.calibration.summary import described_power, described_tests, described_world, failures
from mechgate.calibration.worlds import Design, components_of, null_worlds
from mechgate.provenance import file_sha256
from mechgate.report.calibration import draw_calibration
from mechgate.report.results import read_result, write_result
from mechgate.stages import Stages
from mechgate.testing import tiny_chat_model

QUESTION = "Do verdicts, p-values and intervals err as rarely as they say, and what can they find?"
DESIGNS = (Design(sets=5, facts=120), Design(sets=5, facts=24))
SIGMAS = (0.0, 0.4, 0.5, 0.6, 0.75, 1.0)
TINY = dict(num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4, head_dim=8)
EFFECT = -3.05
"""Nats: E of the gates of figures/selectivity.json at s = -1."""


def main() -> None:
    """Config, tables, numbers, a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("verdicts", "models", "all", "none"), default="all")
    parser.add_argument("--simulations", type=int, default=200, help="of each null world, and of tests on tiny models")
    parser.add_argument("--power-simulations", type=int, default=20, help="of each point of the power curves")
    parser.add_argument("--designs", type=int, default=len(DESIGNS), help="of the power curves, the first ones")
    parser.add_argument("--components", type=Path, default=Path("figures/selectivity.json"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--figure", type=Path, default=Path("figures/calibration.png"))
    parser.add_argument("--redraw", action="store_true", help="draw from FIGURE.json again, simulating nothing")
    given = parser.parse_args()
    stages = Stages(given.folder)
    parts = {"verdicts": _verdicts, "models": _models}
    kept = given.figure.with_suffix(".json")
    if not given.redraw:
        settings = json.loads(json.dumps(vars(given), default=str))
        made_of = {"components": file_sha256(given.components)}
        for name in [one for one in parts if given.part in ("all", one)]:
            numbers = parts[name](given, stages)
            path = given.folder / f"{name}.json"
            write_result(path, question=QUESTION, numbers=numbers, settings=settings, hashes=made_of)
        found = {name: read_result(path) for name in parts if (path := given.folder / f"{name}.json").exists()}
        numbers = {key: value for one in found.values() for key, value in one["numbers"].items()}
        numbers["not calibrated"] = failures(numbers)
        settings = {name: one["settings"] for name, one in found.items()}
        made_of |= {"parts": {name: one["provenance"]["commit"] for name, one in found.items()}}
        write_result(kept, question=QUESTION, numbers=numbers, settings=settings, hashes=made_of)
    numbers = read_result(kept)["numbers"]
    print(*(numbers["not calibrated"] or ["nothing fails"]), sep="\n")
    worlds, power = next(iter(numbers["worlds"].values())), numbers["power"][0]
    tests = [one["n"] for one in numbers.get("tests", {}).values()]
    models = f"also {max(tests)} random gate sets on {numbers['models']} tiny random models; " if tests else ""
    caption = (
        f"a, c: {worlds['n']} simulated verdicts a world (5 gate sets, 120 facts, 6 control tasks of 5 sets, "
        "1,000 bootstrap draws), variations as in figures/selectivity.json.\n"
        f"b: {models}exact tests must be uniform, others have no excess of small p-values. d: {power['n']} verdicts a point, "
        f"E = {EFFECT:+} nats.\nA rate of exactly its nominal size stays within its limit with a chance of about 97%."
    )
    draw_calibration(numbers, given.figure, caption=caption)
    print(f"{given.figure} (.svg, .json)")


def _verdicts(given: Any, stages: Stages) -> dict[str, Any]:
    components = components_of(read_result(given.components))
    worlds = {
        world.name: described_world(
            world, world_table(stages, world, components, Design(), n=given.simulations, seed=given.seed)
        )
        for world in null_worlds(EFFECT)
    }
    how: dict[str, Any] = dict(effect=EFFECT, n=given.power_simulations, seed=given.seed)
    power = power_tables(stages, components, DESIGNS[: given.designs], SIGMAS, **how)
    return {"components": asdict(components), "worlds": worlds, "power": described_power(power)}


def _models(given: Any, stages: Stages) -> dict[str, Any]:
    tables = model_tables(stages, _tiny, TINY, n=given.simulations, seed=given.seed)
    return {"tests": described_tests(pd.concat(tables, ignore_index=True), TESTS), "models": len(tables)}


def _tiny(seed: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return tiny_chat_model(Path(folder) / "model", seed=seed, **TINY)


if __name__ == "__main__":
    main()
