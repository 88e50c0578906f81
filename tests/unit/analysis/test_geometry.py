"""Laws of the conditions' RDMs: a planted model is found, confounds are taken out, ceilings need noise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mechgate.analysis.geometry import condition_arrays, geometry_numbers, model_rdms
from mechgate.data.factorial import Factorial, responses_design
from mechgate.stats.rsa import units_of

Made = Callable[..., np.ndarray]


def arrays_of(design: Factorial, x: np.ndarray, permutations: int = 0) -> dict[str, np.ndarray]:
    return condition_arrays(x, units_of(x), design, n_folds=2, seed=0, permutations=permutations)


def test_models_follow_the_design(design: Factorial) -> None:
    models = model_rdms(design)
    assert set(models) == {"side", "domain", "phrasing", "length"}
    rows, columns = np.triu_indices(24, 1)
    cells = design.cells()
    for i, name in enumerate(("domain", "phrasing", "side")):
        assert models[name].tolist() == [cells[a][i] != cells[b][i] for a, b in zip(rows, columns, strict=True)]
    assert np.corrcoef(models["side"], models["length"])[0, 1] < 0.1  # matched in length
    assert "phrasing" not in model_rdms(responses_design())


def test_shapes_and_folds(design: Factorial, made_up: Made) -> None:
    x = made_up(0)
    found = arrays_of(design, x)
    assert found["rdm"].shape == found["crossnobis"].shape == (2, 276)
    assert found["rdm by fold"].shape == (2, 2, 276)
    assert (found["rdm"] >= 0).all()
    assert "swap p" not in found


def test_a_planted_side_is_found_and_its_removal_too(design: Factorial, made_up: Made) -> None:
    x, after = made_up(0, side=4.0), made_up(0, side=0.0)
    base = arrays_of(design, x, 200)
    gated = condition_arrays(after, units_of(x), design, n_folds=2, seed=0, permutations=200)
    found = geometry_numbers(design, base, {"0": gated}, panel=0)
    for distance in ("rdm", "crossnobis"):
        side = found["models"][distance]["side"]
        assert min(side["before"]) > max(side["after"]) + 0.1
        assert min(side["partial"]["before"]) > 0.5
        assert max(side["partial"]["after"]) < 0.3
    assert max(found["swap p, all layers"]["before"]) < 0.01
    assert min(found["swap p"]["after"]["0"]) > 0.01
    assert (np.array(found["swap p, all layers"]["before"]) >= np.array(found["swap p"]["before"])).all()


def test_a_dampener_keeps_the_geometry(design: Factorial, made_up: Made) -> None:
    x = made_up(1)
    base, damped = arrays_of(design, x), condition_arrays(0.5 * x, units_of(x), design, n_folds=2, seed=0)
    found = geometry_numbers(design, base, {"0": damped}, panel=1)
    np.testing.assert_allclose(found["kept"], 1)
    np.testing.assert_allclose(found["panels"]["after"], 0.25 * np.array(found["panels"]["before"]), rtol=1e-5)
    for model in found["models"]["rdm"].values():
        np.testing.assert_allclose(model["before"], model["after"])


def test_ceilings_are_over_facts_before_and_over_seeds_after(design: Factorial, made_up: Made) -> None:
    x = made_up(2)
    base = arrays_of(design, x)
    r = np.random.default_rng(0)
    seeds: Any = {str(i): arrays_of(design, x + (0.2 * r.normal(size=x.shape)).astype(np.float32)) for i in range(3)}
    found = geometry_numbers(design, base, seeds, panel=0)
    for low, high in (*found["ceiling"]["before"], *found["ceiling"]["after"]):
        assert -1 <= low <= high <= 1 + 1e-12
    assert min(low for low, _ in found["ceiling"]["after"]) > max(low for low, _ in found["ceiling"]["before"])
    assert geometry_numbers(design, base, {"0": seeds["0"]}, panel=0)["ceiling"]["after"] is None


def test_p_values_of_sides_that_are_alike_are_not_small(design: Factorial, made_up: Made) -> None:
    found = [arrays_of(design, made_up(seed), 99)["swap p, all layers"].min() for seed in range(40)]
    assert np.mean(np.array(found) <= 0.1) <= 0.1 + 2.5 * (0.09 / 40) ** 0.5
    assert found == pytest.approx([arrays_of(design, made_up(s), 99)["swap p, all layers"].min() for s in range(40)])
