"""The verdict on one axis: how much of what gates do to the wanted measure they also do to one they should spare.

The rule was fixed before any result on the test split was read; every verdict says what it stands on and what would
change it. Harmonic means of completeness and selectivity (arXiv 2408.15510) have no say in it.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import ArrayLike

from mechgate.errors import InputError
from mechgate.stats.equivalence import Equivalence
from mechgate.stats.estimates import Estimate
from mechgate.stats.grids import Grid
from mechgate.stats.hierarchical import hierarchical_bootstrap

EFFECT_BOUND = 0.5
"""Nats of stance margin that the effect's interval must clear before selectivity is asked for."""
SIGMA_BOUND = 0.5
"""Below it, at least half of what gates do to the wanted measure they do to the unwanted one."""
OUTCOMES = ("ineffective", "undecidable", "not selective", "selective", "partly selective", "inconclusive")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """At one strength: `effect` E on the wanted measure, `side_effect` A on the unwanted one (changes from strength
    0), and `sigma` = 1 - A / E: 1 where the unwanted one is spared, 0 where it moves as much, above 1 where it moves
    the other way. `sigma` is None where E's interval does not clear `EFFECT_BOUND` in the direction of the strength.
    """

    strength: float
    effect: Estimate
    side_effect: Estimate
    sigma: Estimate | None

    @property
    def efficacious(self) -> bool:
        """Whether E's interval clears the bound, on the strength's side of 0."""
        return (self.effect.low if self.strength > 0 else -self.effect.high) > EFFECT_BOUND

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {
            "strength": self.strength,
            "effect": self.effect.to_json(),
            "side_effect": self.side_effect.to_json(),
            "sigma": None if self.sigma is None else self.sigma.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One of `OUTCOMES`, the `reasons` for it in words, and what evidence `would_change` it."""

    outcome: str
    reasons: tuple[str, ...]
    would_change: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"outcome": self.outcome, "reasons": list(self.reasons), "would_change": list(self.would_change)}


def axis(
    wanted: ArrayLike | Grid, unwanted: ArrayLike | Grid, *, strength: float, seed: int, draws: int = 10_000
) -> Axis:
    """E, A and sigma from changes of two measures from strength 0 to `strength`, each [seeds, facts, phrasings].

    The two are paired cell by cell: a fact's false and its true claim, asked alike. Intervals are hierarchical. Raises
    what `hierarchical_bootstrap` raises, and `InputError` for strength 0.
    """
    if strength == 0 or not math.isfinite(strength):
        raise InputError("gates have no effect to speak of at that strength", got=strength, allowed="not 0, finite")
    options: dict[str, Any] = dict(seed=seed, draws=draws)
    effect, side = (hierarchical_bootstrap(one, **options) for one in (wanted, unwanted))
    found = Axis(strength=strength, effect=effect, side_effect=side, sigma=None)
    if not found.efficacious:
        return found
    sigma = hierarchical_bootstrap((unwanted, wanted), statistic=lambda a, e: 1 - a / e, **options)
    return replace(found, sigma=sigma)


def judge(
    found: Axis,
    *,
    spared: Mapping[str, Equivalence],
    nulls: Mapping[str, Estimate | None],
    controls: Mapping[str, Estimate | None],
    blind: Collection[str] = (),
    underpowered: Mapping[str, Equivalence] | None = None,
    discrimination: Estimate | None = None,
    probe: Estimate | None = None,
) -> Verdict:
    """The verdict on an axis.

    `spared`: a TOST on each damage measure (item margins, perplexity, over-refusal); `blind` names those that missed
    gates known to damage, which cannot pass; `underpowered` tests have too few records to pass or fail, and are said.
    `nulls` and `controls`: for each null family and each task of trained controls, the learned separation |E - A| minus
    theirs at the dose where both move neutral text equally far; None where one cannot be matched at any dose. Nulls alone show that something was learned, not that it is selective: without one trained
    control that could be matched no verdict is selective. `discrimination`: the base's change from true to false claims, 0 at
    chance; `probe`: accuracy of a held-out truth probe minus chance. Both at chance: a model that holds no difference
    between true and false claims cannot show gates that respect it.

    In order: *ineffective*, E's interval does not clear 0.5 nats; *undecidable*, both at chance; *not selective*, sigma's
    interval below 0.5; *selective*, sigma's interval above 0.5, every TOST passed and every control beaten; *partly
    selective*, sigma's interval above 0 and reaching beyond 0.5; *inconclusive*, the rest. An interval of sigma above
    1.5 is partly selective at most: the unwanted measure then moves the other way, by at least half as much.
    """
    e, a, sigma = found.effect, found.side_effect, found.sigma
    reasons = [f"E {e}, A {a} nats at s = {found.strength:+g} ({e.method}, n = {e.n})"]
    if sigma is None:
        reasons.append(f"the interval of E does not clear {EFFECT_BOUND} nats")
        return _verdict("ineffective", reasons, ["gates, a strength or a model with a larger effect"])
    reasons.append(f"sigma = 1 - A/E = {sigma}")
    if _at_chance(discrimination) and _at_chance(probe):
        reasons.append(f"the base does not tell true from false claims: margins {discrimination}, probe {probe}")
        return _verdict("undecidable", reasons, ["a model that knows the facts it is asked about"])
    if sigma.high < SIGMA_BOUND:
        reasons.append(f"at least {1 - SIGMA_BOUND:.0%} of the effect is had on what should be spared")
        return _verdict("not selective", reasons, [f"sigma's interval above {SIGMA_BOUND} on new facts"])
    missed = {name: "uninformative, it missed gates that are known to damage" for name in blind if name in spared}
    failed = [
        f"{name}: {missed.get(name) or _why(test)}"
        for name, test in spared.items()
        if name in missed or not test.passed
    ]
    rivals = {**nulls, **controls}
    unbeaten = [f"{name}: {x}" for name, x in rivals.items() if x is not None and x.low <= 0]
    unmatched = [name for name, x in rivals.items() if x is None]
    trained = [name for name, x in controls.items() if x is not None]
    reasons += [f"not shown to be spared, {text}" for text in failed]
    few = underpowered or {}
    reasons += [f"not judged, {n}: n = {t.n} of the {t.n_for_80_power} that 80% power takes" for n, t in few.items()]
    reasons += [f"control not beaten at equal dose, {text}" for text in unbeaten]
    reasons += [f"control not matchable at any dose: {name}" for name in unmatched]
    reasons += [] if spared else ["no damage measure was tested"]
    reasons += [] if trained else ["no trained control was run at equal dose"]
    overshoots = sigma.low > 2 - SIGMA_BOUND
    if overshoots:
        reasons.append("what should be spared moves the other way, by at least half as much")
    clean = spared and trained and not failed and not unbeaten and not overshoots
    if sigma.low > SIGMA_BOUND and clean:
        return _verdict("selective", reasons, ["a damage measure, a control or facts on which it does not hold"])
    wishes = [] if sigma.low > SIGMA_BOUND else [f"more facts or seeds: sigma's interval reaches {sigma.low:+.2f}"]
    wishes += [f"more items, or less damage: {text}" for text in failed]
    wishes += ["a larger separation at equal dose than every control"] if unbeaten or not trained else []
    wishes += ["a test of damage"] if not spared else []
    if sigma.low > 0:  # and high >= SIGMA_BOUND
        return _verdict("partly selective", reasons, wishes)
    return _verdict("inconclusive", reasons, wishes)


def _verdict(outcome: str, reasons: list[str], would_change: list[str]) -> Verdict:
    return Verdict(outcome=outcome, reasons=tuple(reasons), would_change=tuple(would_change))


def _at_chance(estimate: Estimate | None) -> bool:
    """What was not asked is not at chance."""
    return estimate is not None and estimate.low <= 0 <= estimate.high


def _why(test: Equivalence) -> str:
    if not test.informative:
        return "uninformative, the measure does not vary"
    need = "" if test.n_for_80_power is None else f", 80% power needs n = {test.n_for_80_power}"
    low, high = ("none" if side is None else f"{side:+.3g}" for side in test.margin)
    return f"90% interval {test.estimate} not inside {low} to {high} (n = {test.n}{need})"
