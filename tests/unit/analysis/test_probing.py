"""Laws of probing: what is there is read on unseen facts, what is not is not, and forgetting is told from keeping."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mechgate.analysis.probing import (
    control_labels,
    fate,
    probe_arrays,
    probe_numbers,
    side_labels,
    stance_labels,
)
from mechgate.data.factorial import Factorial
from mechgate.errors import InputError
from mechgate.stats.estimates import Estimate

Made = Callable[..., np.ndarray]
FEW: dict[str, Any] = dict(seed=0, draws=500)


def probed(design: Factorial, x: np.ndarray, **more: Any) -> dict[str, np.ndarray]:
    return probe_arrays(x, design, **(dict(n_folds=2, seed=0) | more))


def test_labels_say_nothing_about_side_or_wording(design: Factorial) -> None:
    r = np.random.default_rng(0)
    margins = r.normal(size=len(design.prompts)) + 5 * side_labels(design)
    labels = stance_labels(margins, design).reshape(design.shape)
    assert (labels.mean(axis=0) == 0.5).all()
    with pytest.raises(InputError, match="does not vary"):
        stance_labels(np.zeros(len(design.prompts)), design)


def test_a_control_task_has_one_label_a_claim_whatever_the_wording(design: Factorial) -> None:
    labels = control_labels(design, seed=0).reshape(design.shape)
    assert (labels[:, 0] == labels[:, 1]).all()
    assert labels.mean() == 0.5
    assert (labels != control_labels(design, seed=1).reshape(design.shape)).any()


def test_a_planted_side_is_read_and_the_control_is_not(design: Factorial, made_up: Made) -> None:
    found = probed(design, made_up(0, side=6.0))
    assert found["side"].mean() > 0.95
    assert abs(found["control"].mean() - 0.5) < 0.12
    none = [probed(design, made_up(seed), controls=0)["side"].mean() for seed in range(12)]
    assert abs(np.mean(none) - 0.5) < 4 * np.std(none) / 12**0.5 + 0.01


def test_what_can_be_learned_by_heart_shows_on_unseen_wordings_of_known_claims(
    design: Factorial, made_up: Made
) -> None:
    """Claims have patterns of their own here, so that a control task can be learned; that is no knowledge."""
    found = [probed(design, made_up(seed), c=1.0, controls=4) for seed in range(3)]
    heart, nothing = (np.mean([one[name] for one in found]) for name in ("control wordings", "control"))
    assert heart > 0.57
    assert abs(nothing - 0.5) < 0.06


def test_a_probe_never_sees_the_facts_it_is_judged_on(design: Factorial, made_up: Made) -> None:
    """Labels that only a fact's own pattern could give away are at chance or below."""
    x = made_up(0)
    stance = np.repeat(np.random.default_rng(1).permutation(24) < 12, 4)
    found = probed(design, x, stance=(stance, stance), controls=0)
    assert found["stance"].mean() < 0.65


def gated(design: Factorial, x: np.ndarray, after: np.ndarray, **more: Any) -> dict[str, np.ndarray]:
    return probed(design, after, base=x, controls=0, **more)


def test_knowledge_that_stays_and_knowledge_that_goes(design: Factorial, made_up: Made) -> None:
    x = made_up(0, side=6.0)
    base = probed(design, x)
    kept = probe_numbers(design, base, {"0": gated(design, x, 0.8 * x)}, **FEW)["tasks"]
    assert kept["side"]["outcome"] == "kept"
    assert kept["side"]["change"]["value"] == pytest.approx(0, abs=0.02)
    lost = probe_numbers(design, base, {"0": gated(design, x, made_up(0))}, **FEW)["tasks"]
    assert lost["side"]["outcome"] == lost["side transfer"]["outcome"] == "lost"
    none = probe_numbers(design, probed(design, made_up(1)), {"0": gated(design, made_up(1), x)}, **FEW)["tasks"]
    assert none["side"]["outcome"] in ("uninformative", "gained")


def test_knowledge_that_is_kept_in_another_direction_is_kept_and_does_not_transfer(
    design: Factorial, made_up: Made
) -> None:
    x = made_up(0, side=6.0)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))[0]
    after = (x @ turn).astype(np.float32)
    found = probe_numbers(design, probed(design, x), {"0": gated(design, x, after)}, **FEW)["tasks"]
    assert found["side"]["outcome"] == "kept"
    assert found["side transfer"]["outcome"] == "lost"


def test_the_stance_is_read_before_and_after(design: Factorial, made_up: Made) -> None:
    x = made_up(3)
    margins = [(x[:, 0] @ np.random.default_rng(seed).normal(size=12)) for seed in (0, 1)]
    before, after = (stance_labels(m, design) for m in margins)
    base = probed(design, x, stance=(before, before), c=1.0)
    arm = gated(design, x, x, stance=(before, after), c=1.0)
    assert min(base["stance"][:, 0].mean(), arm["stance"][:, 0].mean()) > 0.75
    assert arm["stance transfer"][:, 0].mean() < 0.75  # the old direction, of a stance that is taken no more
    assert set(probe_numbers(design, base, {"0": arm}, **FEW)["tasks"]) == {
        "side",
        "side transfer",
        "stance",
        "stance transfer",
    }


def test_accuracies_are_means_over_prompts(design: Factorial, made_up: Made) -> None:
    x = made_up(4, side=1.0)
    base, arms = probed(design, x), {str(s): gated(design, x, made_up(s, side=0.5)) for s in (5, 6)}
    found = probe_numbers(design, base, arms, **FEW)["tasks"]["side"]
    assert found["before"] == base["side"].mean(axis=0).tolist()
    mean = np.mean([one["side"].mean() for one in arms.values()])
    assert found["change"]["value"] == pytest.approx(mean - base["side"].mean())
    assert np.mean(found["after"]) == pytest.approx(mean)
    assert found["change"]["n"] == 24


def estimate(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, level=0.95, n=9, method="x")


@pytest.mark.parametrize(
    ("level", "change", "tight", "outcome"),
    [
        ((0.1, 0.3), (-0.05, 0.03), (-0.04, 0.02), "kept"),
        ((0.1, 0.3), (-0.3, -0.1), (-0.28, -0.12), "lost"),
        ((0.1, 0.3), (0.1, 0.3), (0.12, 0.28), "gained"),
        ((0.1, 0.3), (-0.2, 0.2), (-0.15, 0.15), "cannot be told"),
        ((-0.1, 0.3), (0.0, 0.0), (0.0, 0.0), "uninformative"),
    ],
)
def test_what_became_of_it(level: Any, change: Any, tight: Any, outcome: str) -> None:
    assert fate(estimate(*level), estimate(*change), estimate(*tight), 0.05) == outcome
