"""Laws of the numbers of head sets, with slow obvious versions of each."""

import numpy as np
import pytest

from mechgate.causality.head_numbers import adjusted, against_random, on_true_claims, paths, shares, whole_effect
from mechgate.seeding import rng

FACTS = [f"f{k}" for k in range(12)]


def draw(name: str, *size: int, mean: float = -2.0) -> np.ndarray:
    return rng(0, name).normal(mean, 0.3, size)


def test_a_share_is_a_mean_over_a_mean_and_all_of_an_effect_is_1() -> None:
    whole, sets = draw("whole", 12), draw("sets", 3, 12, mean=-1.0)
    found = shares(np.array([*sets, whole, 0 * whole]), whole, FACTS, seed=0)
    for one, values in zip(found, sets, strict=False):
        assert one["value"] == pytest.approx(sum(values) / sum(whole))
        assert one["low"] < one["value"] < one["high"]
    assert [(one["value"], one["low"], one["high"]) for one in found[3:]] == [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0)]


@pytest.mark.parametrize(
    ("effect", "why"),
    [
        (draw("clear", 12), None),
        (-draw("clear", 12), None),
        (draw("small", 12) / 10, "not beyond"),
        (draw("none", 12, mean=0.0), "not beyond"),
        (np.array([-9.0, 0.5, -9.0, 0.5, -9.0, 0.5, -9.0, -9.0, -2.0, 0.5, -1.0, -4.0]), "differs too much"),
    ],
)
def test_only_a_clear_effect_is_taken_apart(effect: np.ndarray, why: str | None) -> None:
    found, said = whole_effect(effect, FACTS, least=0.5, seed=0)
    assert found.value == pytest.approx(effect.mean())
    assert (said is None) if why is None else (why in str(said))


def test_a_set_is_as_extreme_as_the_random_sets_that_keep_as_much() -> None:
    exact, whole = draw("exact", 40, 12, mean=-1.0), draw("whole", 12)
    kept = [sum(one) / sum(whole) for one in exact]
    own = np.array(kept) + rng(1, "noise").normal(0, 0.001, 40)
    found = against_random(kept[7], exact, whole, own[7], np.concatenate([own, own]), own)
    as_much = sum(one >= kept[7] - 1e-12 for one in kept)
    assert found["p"] == pytest.approx((as_much + 1) / 41)
    assert found["screen"]["r"] == pytest.approx(np.corrcoef(own, kept)[0, 1])
    assert found["screened p"] == pytest.approx((2 * sum(one >= own[7] for one in own) + 1) / 81)
    assert found["screened random"]["median"] == pytest.approx(np.median(own))


def test_a_screen_that_does_not_follow_exact_sets_gives_no_p() -> None:
    exact, whole = draw("exact", 40, 12, mean=-1.0), draw("whole", 12)
    noise = rng(2, "noise").normal(0, 0.1, 40)
    assert against_random(0.9, exact, whole, 0.9, noise, noise)["screened p"] is None
    same = np.repeat(exact[:1], 40, axis=0)
    alone = against_random(float(exact[0].mean() / whole.mean()), same, whole, 1.0, np.ones(99), np.ones(40))
    assert (alone["screen"], alone["screened p"], alone["p"]) == (None, None, 1.0)


def test_paths_add_up_and_pairs_are_paired() -> None:
    total, direct = draw("total", 4, 12), draw("direct", 4, 12)
    found = paths(total, direct, [0, 3, 5], FACTS, seed=0)
    assert found["layers"] == [0, 3, 5]
    for where in (
        *(dict(zip(found["by layer"], row, strict=True)) for row in zip(*found["by layer"].values(), strict=True)),
    ):
        assert where["direct"]["value"] + where["indirect"]["value"] == pytest.approx(where["total"]["value"])
    assert found["all layers"]["direct"]["value"] == pytest.approx(direct[-1].mean())
    claims = on_true_claims(total[0], total[0] + 0.25, FACTS, seed=0)
    assert claims["false minus true"]["value"] == pytest.approx(-0.25)
    assert claims["false minus true"]["high"] - claims["false minus true"]["low"] < 1e-9


def test_holm_is_over_the_orders_that_have_a_set_for_each_kind_of_random_sets() -> None:
    both = {
        "a": {"random": {"layers": {"p": 0.03}, "all": {"p": 0.5}}},
        "b": {"random": {"layers": {"p": 0.02}, "all": {"p": 0.01}}},
        "c": None,
    }
    found = adjusted(both)
    assert [found[name]["random"]["layers"]["p, Holm"] for name in "ab"] == [0.04, 0.04]
    assert [found[name]["random"]["all"]["p, Holm"] for name in "ab"] == [0.5, 0.02]
    assert found["c"] is None
    assert "p, Holm" not in str(both)
    assert adjusted({"a": None}) == {"a": None}
