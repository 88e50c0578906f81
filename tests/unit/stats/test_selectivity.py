"""Laws of the verdict: each outcome on data made to deserve it, and no praise that evidence does not cover."""

from dataclasses import replace

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.stats.equivalence import tost
from mechgate.stats.estimates import Estimate
from mechgate.stats.selectivity import OUTCOMES, Axis, axis, judge

FACTS = list(range(250))


def changes(
    effect: float,
    side: float,
    *,
    noise: float = 0.3,
    seeds: int = 5,
    facts: int = 40,
    gates: float = 0.2,
    seed: int = 0,
):
    """Changes of a wanted and an unwanted measure: [seeds, facts, 2], facts varying, gate seeds a little."""
    draw = np.random.default_rng(seed)

    def one(mean: float) -> np.ndarray:
        fact, gate = draw.normal(size=(1, facts, 1)), draw.normal(size=(seeds, 1, 1))
        return mean + noise * (fact + gates * gate) + 0.1 * draw.normal(size=(seeds, facts, 2))

    return one(effect), one(side)


def found(effect: float, side: float, strength: float = -1.0, **options) -> Axis:
    return axis(*changes(effect, side, **options), strength=strength, seed=0, draws=2000)


def estimate(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, n=40, method="made up")


def spared(mean: float):
    noise = np.random.default_rng(1).normal(size=len(FACTS))
    return tost(mean + noise - noise.mean(), FACTS, margin=0.2)


PASSED, FAILED = spared(0.0), spared(0.4)
BEATEN, UNBEATEN = estimate(0.5, 1.5), estimate(-0.2, 0.8)
GOOD = {"spared": {"items": PASSED}, "nulls": {"dampener": BEATEN}, "controls": {"sign-off": BEATEN}}


def test_the_evidence_used_here_pass_and_fail():
    assert (PASSED.passed, FAILED.passed) == (True, False)


@pytest.mark.parametrize("strength", [-1.0, 1.0])
def test_sigma_is_one_minus_side_effect_over_effect(strength):
    e, a = changes(3.0 * strength, 0.6 * strength)
    result = axis(e, a, strength=strength, seed=0)
    assert result.sigma is not None
    assert result.sigma.value == pytest.approx(1 - a.mean() / e.mean())
    assert (result.effect.value, result.side_effect.value) == (pytest.approx(e.mean()), pytest.approx(a.mean()))
    assert result.sigma.low < 0.8 < result.sigma.high


def test_scaling_and_the_direction_of_strength_leave_sigma_alone():
    e, a = changes(3.0, 1.0)
    one = axis(e, a, strength=1.0, seed=0).sigma
    for factor, strength in ((2.0, 1.0), (-1.0, -1.0)):
        other = axis(factor * e, factor * a, strength=strength, seed=0).sigma
        assert other is not None
        assert one is not None
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))


@pytest.mark.parametrize(
    ("effect", "side", "outcome"),
    [
        (-3.0, 0.0, "selective"),
        (-3.0, -3.0, "not selective"),
        (-3.0, -2.0, "not selective"),
        (-0.5, 0.0, "ineffective"),
        (+3.0, 0.0, "ineffective"),  # the wrong way
        (-3.0, 3.0, "partly selective"),  # the unwanted one moves as much the other way
    ],
)
def test_each_world_gets_the_outcome_it_deserves(effect, side, outcome):
    assert judge(found(effect, side), **GOOD).outcome == outcome


def test_an_interval_across_the_bound_is_partly_and_one_across_zero_inconclusive():
    base = found(-3.0, 0.0)
    assert judge(replace(base, sigma=estimate(0.3, 0.7)), **GOOD).outcome == "partly selective"
    assert judge(replace(base, sigma=estimate(-0.1, 0.7)), **GOOD).outcome == "inconclusive"
    assert judge(replace(base, sigma=estimate(-0.6, 0.4)), **GOOD).outcome == "not selective"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"spared": {"items": FAILED}}, "not shown to be spared, items"),
        ({"spared": {"items": PASSED, "perplexity": tost([0.0] * 5, range(5), margin=0.1)}}, "uninformative"),
        ({"spared": {}}, "no damage measure was tested"),
        ({"controls": {"sign-off": BEATEN, "shuffled": UNBEATEN}}, "control not beaten at equal dose, shuffled"),
        ({"nulls": {"dampener": UNBEATEN}}, "control not beaten at equal dose, dampener"),
        ({"controls": {}}, "no trained control was run"),
        ({"controls": {"sign-off": None}}, "control not matchable at any dose: sign-off"),
        ({"blind": {"items"}}, "items: uninformative, it missed gates that are known to damage"),
    ],
)
def test_selective_needs_every_test_passed_and_every_control_beaten(changed, says):
    verdict = judge(found(-3.0, 0.0), **{**GOOD, **changed})
    assert verdict.outcome == "partly selective"
    assert any(says in reason for reason in verdict.reasons)


def test_a_control_that_cannot_be_matched_is_named_and_forbids_nothing():
    verdict = judge(found(-3.0, 0.0), **{**GOOD, "nulls": {"dampener": BEATEN, "haar": None}})
    assert verdict.outcome == "selective"
    assert "control not matchable at any dose: haar" in verdict.reasons


def test_a_model_that_knows_no_difference_leaves_the_axis_undecidable():
    chance, clear = estimate(-0.1, 0.1), estimate(0.05, 0.2)
    for side in (0.0, -3.0):
        world = found(-3.0, side)
        assert judge(world, **GOOD, discrimination=chance, probe=chance).outcome == "undecidable"
        for one, other in ((chance, clear), (clear, chance), (chance, None), (None, chance)):
            assert judge(world, **GOOD, discrimination=one, probe=other).outcome != "undecidable"
    assert judge(found(-0.2, 0.0), **GOOD, discrimination=chance, probe=chance).outcome == "ineffective"


def test_one_gate_seed_says_that_seeds_were_not_drawn():
    one, five = found(-3.0, 0.0, seeds=1), found(-3.0, 0.0, seeds=5)
    assert "seeds" not in one.effect.method
    assert "seeds" in five.effect.method


def test_false_praise_is_rare_where_sigma_sits_on_the_bound():
    """Boundary world: sigma = .5 exactly; the lower end of a 95% interval should exceed it in about 2.5%."""
    praised = sum(
        judge(found(-3.0, -1.5, seeds=1, facts=60, gates=0.0, noise=1.0, seed=k), **GOOD).outcome == "selective"
        for k in range(150)
    )
    assert praised <= 150 * 0.05 + 2 * (150 * 0.05 * 0.95) ** 0.5


def test_every_verdict_has_reasons_and_what_would_change_it_and_is_json():
    worlds = [found(e, a) for e, a in ((-3.0, 0.0), (-3.0, -3.0), (-0.2, 0.0), (-3.0, -1.4))]
    for world in worlds:
        for evidence in (GOOD, {"spared": {"items": FAILED}, "nulls": {}, "controls": {"a": UNBEATEN}}):
            verdict = judge(world, **evidence)
            assert verdict.outcome in OUTCOMES
            assert verdict.reasons
            assert verdict.would_change
            assert verdict.to_json()["outcome"] == verdict.outcome
        assert world.to_json()["effect"]["n"] == 40


@pytest.mark.parametrize("strength", [0.0, float("nan"), float("inf")])
def test_a_strength_without_effect_is_refused(strength):
    e, a = changes(-3.0, 0.0)
    with pytest.raises(InputError, match="no effect to speak of"):
        axis(e, a, strength=strength, seed=0)
