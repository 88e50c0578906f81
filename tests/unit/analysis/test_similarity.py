"""Laws of changed representations: what acts on unsafe prompts alone is found, and a dampener is not called selective."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mechgate.analysis.similarity import CHANGES, CKA, GROUPS, change_arrays, change_numbers, judged
from mechgate.data.factorial import Factorial
from mechgate.errors import InputError
from mechgate.stats.cka import debiased_cka
from mechgate.stats.estimates import Estimate
from mechgate.stats.rsa import units_of

Made = Callable[..., np.ndarray]
FEW: dict[str, Any] = dict(seed=0, draws=500)


def turned(x: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    """What gates of a kind make of activations."""
    r = np.random.default_rng([seed, 77])
    direction = np.random.default_rng(7).normal(size=x.shape[2])
    direction /= np.linalg.norm(direction)
    after = x.copy()
    if kind == "dampener":
        after *= 0.7
    if kind in ("projection", "safe projection"):  # one direction is taken out of one side
        part = slice(0, None, 2) if kind == "projection" else slice(1, None, 2)
        after[part] -= (after[part] @ direction)[..., None] * direction
    if kind == "shift":  # all of one side move alike
        after[::2] += 2 * direction
    if kind == "noise":
        after += 0.3 * r.normal(size=x.shape).astype(np.float32)
    return after


def measured(design: Factorial, x: np.ndarray, kind: str, seed: int = 0) -> dict[str, np.ndarray]:
    return change_arrays(x, turned(x, kind, seed), units_of(x), design)


def numbers(design: Factorial, x: np.ndarray, kind: str, **more: Any) -> dict[str, Any]:
    nulls = {f"null {i}": measured(design, x, "noise", i) for i in range(4)}
    given: dict[str, Any] = dict(nulls=nulls, controls={"sign-off": measured(design, x, "dampener")}) | FEW | more
    return change_numbers(design, {"0": measured(design, x, kind)}, **given)


def test_a_direction_taken_out_of_unsafe_prompts_is_found_in_every_measure(design: Factorial, made_up: Made) -> None:
    found = numbers(design, made_up(0), "projection")
    for name in CHANGES:
        assert found[name]["overall"]["low"] > 0
        assert found[name]["overall"]["p"] < 0.01
        assert max(found[name]["p"]) < 0.05
        assert found[name]["outcome"] == "selective"
        assert "unsafe prompts change more" in found[name]["reason"]
    assert found["size"]["safe"] == [0, 0]
    assert found["size"]["share"]["value"] == pytest.approx(2)  # all of the change, over half of the prompts


def test_the_sides_are_told_apart(design: Factorial, made_up: Made) -> None:
    found = numbers(design, made_up(0), "safe projection")
    for name in CHANGES:
        assert found[name]["overall"]["high"] < 0
        assert found[name]["reason"].startswith("safe prompts change more")


@pytest.mark.parametrize("seed", range(4))
def test_a_pure_dampener_is_not_called_selective_by_rsa_and_cannot_be_seen_by_cka(
    design: Factorial, made_up: Made, seed: int
) -> None:
    """Also where the sides differ, and so their sizes."""
    x = made_up(seed, side=3.0)
    arrays = measured(design, x, "dampener")
    np.testing.assert_allclose(arrays["size"], 0.3, atol=1e-5)
    np.testing.assert_allclose(arrays["cka"], 1, atol=1e-5)
    for name in ("beyond", "rows"):
        np.testing.assert_allclose(arrays[name], 0, atol=1e-5)
        found = numbers(design, x, "dampener")[name]
        assert found["outcome"] in ("no change", "not selective", "cannot be told")
        assert abs(found["overall"]["value"]) < 1e-5


def test_what_moves_a_whole_side_alike_is_seen_by_displacement_and_not_within_the_side(
    design: Factorial, made_up: Made
) -> None:
    found = numbers(design, made_up(1), "shift")
    assert found["beyond"]["outcome"] == "selective"
    assert found["rows"]["outcome"] == "no change"


def test_noise_on_both_sides_is_called_selective_no_more_often_than_a_95_percent_interval_errs(
    design: Factorial, made_up: Made
) -> None:
    called = 0
    for seed in range(20):
        x = made_up(seed)
        nulls = {str(i): measured(design, x, "noise", i) for i in range(3)}
        found = change_numbers(design, {"0": measured(design, x, "noise", 99)}, nulls, nulls, **FEW)
        called += sum("selective" in found[name]["outcome"].removeprefix("not selective") for name in CHANGES)
    assert called <= 6  # of 60; 5% of intervals err, and nulls take some of these back


def test_without_nulls_or_controls_less_is_said(design: Factorial, made_up: Made) -> None:
    x = made_up(0)
    assert numbers(design, x, "projection", controls={})["rows"]["outcome"] == "beyond nulls"
    assert numbers(design, x, "projection", controls={}, nulls={})["rows"]["outcome"] == "cannot be told"
    rival = {"alike": measured(design, x, "projection")}
    assert numbers(design, x, "projection", controls=rival)["rows"]["outcome"] == "not selective"
    assert numbers(design, x, "nothing")["rows"]["outcome"] == "no change"


def test_the_difference_is_that_of_prompts_averaged_by_hand(design: Factorial, made_up: Made) -> None:
    x = made_up(2)
    sets = {str(seed): measured(design, x, "noise", seed) for seed in range(3)}
    found = change_numbers(design, sets, {}, {}, **FEW)["rows"]
    for layer in range(2):
        values = np.mean([one["rows"][:, layer] for one in sets.values()], axis=0)
        assert found["unsafe"][layer] == pytest.approx(values[::2].mean())
        assert found["safe"][layer] == pytest.approx(values[1::2].mean())
        assert found["difference"][layer]["value"] == pytest.approx(values[::2].mean() - values[1::2].mean())
        assert found["difference"][layer]["n"] == 24
    assert found["seeds"]["1"] == pytest.approx((sets["1"]["rows"][::2] - sets["1"]["rows"][1::2]).mean())


def test_cka_is_of_the_named_prompts_with_the_named_options(design: Factorial, made_up: Made) -> None:
    x = made_up(3)
    after = turned(x, "noise")
    arrays = change_arrays(x, after, units_of(x), design)
    assert arrays["cka"].shape == (len(CKA), len(GROUPS), 2)
    found = arrays["cka"][list(CKA).index("without top 3"), GROUPS.index("safe"), 1]
    assert found == pytest.approx(debiased_cka(x[1::2, 1], after[1::2, 1], drop=3))


def test_other_prompts_are_refused(design: Factorial, made_up: Made) -> None:
    x = made_up(0)
    with pytest.raises(InputError, match="same prompts"):
        change_arrays(x, x[:, :1], units_of(x), design)
    with pytest.raises(InputError, match="same prompts"):
        change_arrays(x[1:], x[1:], units_of(x), design)


def share(value: float, half: float) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, level=0.95, n=9, method="x")


@pytest.mark.parametrize(
    ("estimate", "nulls", "controls", "outcome"),
    [
        (share(1.5, 0.1), [0.1, -0.9], [0.2], "selective"),
        (share(-1.5, 0.1), [0.6, -0.4], [0.2], "selective"),
        (share(0.5, 0.1), [0.1, -0.9], [0.2], "partly selective"),
        (share(-0.7, 0.1), [0.6, -0.4], [0.2], "partly selective"),
        (share(0.05, 0.02), [0.01], [0.01], "not selective"),
        (share(0.5, 0.1), [0.1], [0.6], "not selective"),
        (share(0.5, 0.1), [0.5], [], "not selective"),
        (share(0.5, 0.1), [0.1], [], "beyond nulls"),
        (share(0.5, 0.1), [], [0.1], "cannot be told"),
        (share(0.01, 0.05), [], [], "not selective"),
        (share(0.01, 0.5), [0.1], [0.1], "cannot be told"),
        (None, [0.1], [0.1], "no change"),
    ],
)
def test_outcomes(estimate: Estimate | None, nulls: list[float], controls: list[float], outcome: str) -> None:
    assert judged(estimate, nulls, controls)[0] == outcome


def test_a_p_value_stands_where_there_are_nulls_enough() -> None:
    assert "p = 0.05" in judged(share(0.5, 0.1), [0.01 * i for i in range(19)], [])[1]
    assert "p =" not in judged(share(0.5, 0.1), [0.01] * 18, [])[1]


def test_the_design_is_what_orders_prompts(design: Factorial) -> None:
    assert replace(design).conditions()[:4] == [0, 1, 2, 3]
