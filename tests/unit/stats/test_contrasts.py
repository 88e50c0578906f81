"""Laws of contrasts between two families of gate sets: what a slow loop gives, and cover where sets differ in number."""

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.stats.contrasts import family_contrast


def family(sets: int, facts: int = 12, phrasings: int = 2, *, mean: float = 0.0, spread: float = 1.0, seed: int = 0):
    draw = np.random.default_rng(seed)
    return mean + spread * draw.normal(size=(sets, 1, 1)) + draw.normal(size=(sets, facts, phrasings))


def minus(x, y):
    return x - y


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_is_that_of_a_slow_loop(paired):
    a, b = family(4, seed=1), family(4, seed=2, mean=1.0)
    found = family_contrast((a,), (b,), minus, paired=paired, seed=0)
    draw, slow = np.random.default_rng(5), []
    for _ in range(4000):
        facts = draw.integers(0, 12, 12)
        one = draw.integers(0, 4, 4)
        other = one if paired else draw.integers(0, 4, 4)
        slow.append(a[one][:, facts].mean() - b[other][:, facts].mean())
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.06)
    assert found.n == 12


def test_pairs_that_differ_by_a_constant_have_no_spread_and_unpaired_ones_do():
    a = family(5)
    found = family_contrast((a,), (a - 2,), minus, paired=True, seed=0)
    assert (found.low, found.high) == (pytest.approx(2), pytest.approx(2))
    assert (
        np.ptp([getattr(family_contrast((a,), (a - 2,), minus, paired=False, seed=0), e) for e in ("low", "high")]) > 1
    )


def test_several_measures_go_to_the_statistic_in_order():
    e, a, c = family(3, mean=5.0), family(3, mean=2.0, seed=1), family(2, mean=1.0, seed=2)
    found = family_contrast((e, a), (c,), lambda e, a, c: (e - a) * 10 + c, paired=False, seed=0)
    assert found.value == pytest.approx((e.mean() - a.mean()) * 10 + c.mean())


@pytest.mark.parametrize(("first", "second"), [(5, 5), (5, 4), (1, 5)])
def test_equal_families_are_seldom_told_apart(first, second):
    """Seeds of both families count, however many there are; five are few for any bootstrap, and one hides its spread."""
    wrong = 0
    for k in range(200):
        one, other = family(first, seed=2 * k, spread=0.3), family(second, seed=2 * k + 1, spread=0.3)
        found = family_contrast((one,), (other,), minus, paired=False, seed=k, draws=400)
        wrong += not found.low <= 0 <= found.high
    assert wrong <= (0.2 if min(first, second) > 1 else 0.4) * 200  # of one set, spread cannot be seen


def test_what_is_not_on_the_same_facts_is_refused():
    for first, second, paired in (
        (family(3), family(3, facts=11), False),
        (family(3), family(2), True),
        (family(3, facts=1), family(3, facts=1), False),
        (family(3)[0], family(3), False),
    ):
        with pytest.raises(InputError):
            family_contrast((first,), (second,), minus, paired=paired, seed=0)
    with pytest.raises(InputError, match="finite"):
        family_contrast((family(3) * np.nan,), (family(3),), minus, paired=False, seed=0)
