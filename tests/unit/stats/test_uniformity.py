"""Uniform p-values pass, small ones fail, conservative ones pass only where the test is not called exact."""

import numpy as np
import pytest

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.uniformity import rate, uniformity

UNIFORM = 1 - rng(0, "uniform").random(300)


def test_uniform_p_values_are_calibrated_by_both_questions() -> None:
    for exact in (True, False):
        assert uniformity(UNIFORM, exact=exact).calibrated


def test_liberal_p_values_fail_both_questions() -> None:
    for exact in (True, False):
        found = uniformity(UNIFORM**2, exact=exact)
        assert not found.calibrated
        assert not found.rejections.within


def test_conservative_p_values_fail_only_where_the_test_is_called_exact() -> None:
    assert not uniformity(UNIFORM**0.5, exact=True).calibrated
    assert uniformity(UNIFORM**0.5, exact=False).calibrated


def test_p_values_on_a_grid_need_its_step() -> None:
    grid = np.ceil(UNIFORM * 20) / 20
    assert uniformity(grid, exact=True, step=1 / 20).calibrated
    assert uniformity(grid, exact=True).p < uniformity(grid, exact=True, step=1 / 20).p


def test_rejections_are_counted_at_and_below_five_per_cent() -> None:
    values = [0.05] * 3 + [0.050001] * 17
    assert uniformity(values, exact=False).rejections.share.value == 3 / 20


def test_a_rate_is_within_up_to_two_standard_errors_above_its_nominal_value() -> None:
    limit = 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
    assert [rate(hits, 200).within for hits in (16, 17)] == [limit >= 16 / 200, limit >= 17 / 200] == [True, False]


def test_unusable_input_is_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        uniformity([0.0] * 30, exact=True)
    with pytest.raises(InputError, match="step"):
        uniformity(UNIFORM, exact=True, step=2.0)
    with pytest.raises(InputError, match="simulations"):
        rate(1, 19)
    with pytest.raises(InputError, match="part of n"):
        rate(31, 30)
    with pytest.raises(InputError, match="chance"):
        rate(1, 30, nominal=0)
