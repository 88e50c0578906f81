"""Laws of the table: what is always right is trusted, what is random is not, and what knows layers is said to."""

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.planted.benchmark import Measured
from mechgate.planted.summary import VERDICTS, summarise, told


def plants(n_bases: int = 3, a_base: int = 4, kind: str = "weights") -> list[Measured]:
    """Plants of three heads with maps that are right, that know the layers, that are random and that are wrong."""
    draw, found = np.random.default_rng(0), []
    for base in range(n_bases):
        for i in range(a_base):
            truth = np.zeros((4, 6), dtype=bool)
            truth[3, draw.permutation(6)[:2]] = True
            truth[2, draw.integers(6)] = True
            noise = draw.random((2, 4, 6))
            layers = np.arange(4.0)[None, :, None] + 0 * noise
            maps = {
                "right": truth + 0.5 * noise,
                "layers": layers + 0.01 * noise,
                "random": noise,
                "wrong": -1.0 * truth + 0.5 * noise,
            }
            found.append(Measured(kind=kind, base=base, name=f"{base}-{i}", truth=truth, facts={}, maps=maps))
    return found


def test_each_method_gets_its_verdict() -> None:
    rows = summarise(plants(), draws=999)["rows"]["planted hosts, weights"]
    verdicts = {method: row["verdict"] for method, row in rows.items()}
    assert verdicts == dict(zip(("right", "layers", "random", "wrong"), VERDICTS, strict=True))
    assert rows["right"]["auroc"]["value"] == rows["right"]["precision"]["value"] == 1
    assert rows["right"]["chance"] == 3 / 24


def test_values_are_means_of_plants_and_intervals_hold_them() -> None:
    rows = summarise(plants(), draws=999)["rows"]["planted hosts, weights"]
    for row in rows.values():
        for name in ("auroc", "precision"):
            assert row[name]["value"] == pytest.approx(np.mean(row[f"{name} by plant"]))
            assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]


def test_one_plant_has_no_interval_and_no_verdict() -> None:
    rows = summarise(plants(1, 1), draws=999)["rows"]["planted hosts, weights"]
    assert rows["right"]["auroc"]["low"] is None
    assert {row["verdict"] for row in rows.values()} == {VERDICTS[2]}


def test_plants_of_unequal_number_or_of_one_base_are_resampled_by_plant() -> None:
    for some in (plants(1, 4), plants()[:-1]):
        row = summarise(some, draws=999)["rows"]["planted hosts, weights"]["random"]
        assert row["auroc"]["n"] == len(some)


def test_kinds_of_truth_are_told_apart_and_nothing_is_an_error() -> None:
    numbers = summarise([*plants(), *plants(kind="circuit")], draws=999)
    assert list(numbers["rows"]) == ["planted hosts, weights", "known circuit"]
    lines = told(numbers)
    assert sum("right: AUROC 1.00" in line for line in lines) == 2
    with pytest.raises(InputError):
        summarise([])


def test_gates_that_did_nothing_are_named() -> None:
    some = plants(1, 2)
    some[0].facts["gates"] = {"sparse": [-0.1, 0.0], "corrected": [-3.0, -4.0]}
    last = told(summarise(some, draws=999))[-1]
    assert "sparse gates in 0-0 (-0.05)" in last
    assert "corrected" not in last
