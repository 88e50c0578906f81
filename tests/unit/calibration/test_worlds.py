"""Worlds have the truth they claim, and verdicts in them come from the referee's functions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechgate.calibration.summary import described_power, described_world, failures
from mechgate.calibration.verdicts import simulate, simulations
from mechgate.calibration.worlds import Components, Design, World, components_of, draw, null_worlds
from mechgate.errors import DataError, InputError
from mechgate.referee.summary import changes
from mechgate.report.sections.instrument import calibration
from mechgate.seeding import rng
from mechgate.stats.selectivity import OUTCOMES

NONE = Components(set_common=0, set_apart=0, fact_common=0, fact_apart=0, base_apart=0.1, item=0.7, rate=0.01)
SMALL = replace(NONE, set_common=0.02, set_apart=0.005, fact_common=0.05, fact_apart=0.05)
LITTLE = Design(sets=2, facts=20, dose_facts=6, controls=4, items=230, texts=30)
WORLDS = {world.name: world for world in null_worlds(-3.0)}


@pytest.mark.parametrize("name", WORLDS)
def test_without_variation_changes_are_the_worlds_own(name: str) -> None:
    world = WORLDS[name]
    tables = draw(world, NONE, LITTLE, rng(0, "test"))
    for side, truth in (("wanted", world.effect), ("unwanted", world.side_effect)):
        grid = changes(tables.rows, tables.start, side)
        assert grid.values.shape == (2, 20, 1)
        np.testing.assert_allclose(grid.values, truth, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("inert", "ineffective"),
        ("unrelated", "not selective"),
        ("base at chance", "undecidable"),
        ("sigma at .5", "partly selective"),
    ],
)
def test_with_little_variation_the_verdict_is_the_right_one(name: str, outcome: str) -> None:
    # At exactly .5 an interval of any width reaches beyond it both ways; wide enough not to be one-sided by chance.
    assert simulate(WORLDS[name], SMALL, LITTLE, seed=3, draws=200)["outcome"] == outcome


def test_gates_that_select_and_spare_are_selective_in_these_tables() -> None:
    world = World(name="selects", what="", effect=-3, sigma=1, size=3, wrong=frozenset())
    found = simulate(world, SMALL, LITTLE, seed=0, draws=200)
    assert found["outcome"] == "selective"
    assert found["beaten"] == 6
    broken = replace(world, damage={"perplexity": 5.0})
    assert simulate(broken, SMALL, LITTLE, seed=0, draws=200)["outcome"] == "partly selective"


def test_simulations_can_be_added_to() -> None:
    world = WORLDS["inert"]
    whole = simulations(world, SMALL, LITTLE, n=3, seed=0, draws=100)
    parts = [simulations(world, SMALL, LITTLE, n=n, seed=0, first=first, draws=100) for first, n in ((0, 2), (2, 1))]
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True))


def test_what_fails_is_said_and_what_does_not_is_not() -> None:
    world = WORLDS["inert"]
    n = 40
    rows = pd.DataFrame({"outcome": ["ineffective"] * n, "p, interaction": 1 - rng(1, "p").random(n)})
    for name in ("E", "A", "sigma", "E - A", "base", "probe"):
        rows[f"covers, {name}"] = None if name == "sigma" else 1.0
    good = described_world(world, rows)
    assert good["coverage"]["sigma"] is None
    assert failures({"worlds": {"inert": good}}) == []
    rows["outcome"] = ["selective"] * 10 + ["ineffective"] * 30
    rows["covers, E"] = [0.0] * 20 + [1.0] * 20
    lines = failures({"worlds": {"inert": described_world(world, rows)}})
    assert len(lines) == 2
    assert "wrong in 25.0%" in lines[0]
    assert "interval of E" in lines[1]
    power = described_power({(LITTLE, 0.5): rows})
    numbers = {"worlds": {"inert": good}, "power": power, "not calibrated": lines}
    told = calibration({"numbers": numbers, "settings": {}})
    assert told.findings == tuple(lines)
    assert {len(row) == len(table.columns) for table in told.tables for row in table.rows} == {True}
    assert [len(table.rows) for table in told.tables] == [1, 1, 1]


def test_power_points_hold_every_outcome() -> None:
    rows = pd.DataFrame({"outcome": ["selective"] * 3 + ["inconclusive"]})
    (point,) = described_power({(LITTLE, 0.5): rows})
    assert tuple(point["outcomes"]) == OUTCOMES
    assert point["outcomes"]["selective"]["value"] == 0.75


def test_components_are_those_that_made_the_intervals() -> None:
    def interval(error: float, n: int = 100) -> dict[str, float]:
        return {"value": -2.0, "low": -2 - 1.96 * error, "high": -2 + 1.96 * error, "n": n}

    sets = [{"set": str(i), "strength": -1.0, "wanted": -2 + d, "unwanted": -2 + d} for i, d in enumerate((-0.3, 0.3))]
    spread = float(np.std([-0.3, 0.3], ddof=1))
    both = (spread**2 / 4 + 0.5**2 / 100) ** 0.5
    context = {
        "axes": {"all": [{"strength": -1.0, "effect": interval(both)}]},
        "sets": sets,
        "interaction": interval(0.05),
        "base": {"discrimination": interval(0.04)},
        "spared": {
            "perplexity, chat": {"estimate": {"low": -0.1645, "high": 0.1645, "n": 25}},
            "four-choice margin": {"margin": [-0.14, 0.14]},
        },
    }
    found = components_of({"numbers": {"settings": {"strength": -1.0}, "contexts": {"base": context}}})
    assert found.set_common == pytest.approx(spread / 2)
    assert found.fact_common == pytest.approx(0.25)
    assert found.fact_apart == pytest.approx(0.25)
    assert (found.base_apart, found.item, found.rate) == pytest.approx((0.4, 0.7, 0.5))
    with pytest.raises(DataError, match="no selectivity analysis"):
        components_of({"numbers": {}})


def test_worlds_need_an_effect_beyond_the_bound() -> None:
    with pytest.raises(InputError, match="beyond the bound"):
        null_worlds(-0.4)
