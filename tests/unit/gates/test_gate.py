"""Laws of one layer's gate as a pure function."""

import math
from typing import Any

import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gate import GRANULARITIES, Gate, check_strength, n_units, write
from mechgate.model.sites import Shape

SHAPE = Shape(n_layers=3, n_heads=4, d_head=6, d_model=10)
KINDS = [dict(input="linear", rank=None), dict(input="linear", rank=3), dict(input="static", rank=None)]
FORMS = pytest.mark.parametrize("kind", KINDS, ids=["full", "low-rank", "static"])
SIZES = pytest.mark.parametrize("granularity", GRANULARITIES)
STRENGTHS = pytest.mark.parametrize("s", [0.0, 0.3, 1.0, 2.0, -1.0, 17.0])


def make(kind: dict[str, Any], granularity: str = "element", seed: int | None = 0) -> Gate:
    """A gate with random parameters, or, without a seed, one at its start."""
    generator = torch.Generator().manual_seed(seed or 0)
    gate = Gate(n_units(SHAPE, granularity), SHAPE.d_model, generator=generator, **kind)
    if seed is not None:
        with torch.no_grad():
            for parameter in gate.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return gate


def some(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@SIZES
def test_units_are_one_for_each_element_head_or_layer(granularity: str) -> None:
    assert n_units(SHAPE, granularity) == {"element": 24, "head": 4, "layer": 1}[granularity]


@SIZES
@FORMS
def test_a_gate_starts_as_one_exactly(kind: dict[str, Any], granularity: str) -> None:
    gate = make(kind, granularity, seed=None)
    for dtype in (torch.float32, torch.bfloat16):
        x = some(2, 5, 10).to(dtype)
        assert torch.equal(gate.delta(x), torch.zeros(2, 5, n_units(SHAPE, granularity)))
        assert torch.equal(gate(x, 3.0), torch.ones(2, 5, n_units(SHAPE, granularity)))


def test_the_value_is_two_sigmoids_of_the_affine_map() -> None:
    gate, x = make(KINDS[0]), some(2, 5, 10)
    assert gate.weight is not None
    expected = 2 * torch.sigmoid(torch.einsum("ud,bpd->bpu", gate.weight, x) + gate.bias)
    torch.testing.assert_close(gate(x), expected, atol=1e-6, rtol=0)


def test_a_low_rank_gate_equals_the_full_gate_of_its_product() -> None:
    low, full, x = make(KINDS[1]), make(KINDS[0]), some(2, 5, 10)
    assert low.up is not None
    assert low.down is not None
    assert full.weight is not None
    with torch.no_grad():
        full.weight.copy_(low.up @ low.down)
        full.bias.copy_(low.bias)
    torch.testing.assert_close(low(x), full(x), atol=1e-5, rtol=0)


@SIZES
def test_a_static_gate_ignores_its_input(granularity: str) -> None:
    gate = make(KINDS[2], granularity)
    values = gate(some(2, 5, 10))
    assert torch.equal(values, gate(some(2, 5, 10, seed=9) * 100))
    torch.testing.assert_close(values, (2 * torch.sigmoid(gate.bias)).expand_as(values), atol=1e-6, rtol=0)


@SIZES
@FORMS
def test_the_gate_lies_between_zero_and_two(kind: dict[str, Any], granularity: str) -> None:
    values = make(kind, granularity)(some(4, 9, 10) * 3)
    assert values.min() >= 0
    assert values.max() <= 2
    assert (values - 1).abs().max() > 0.1


@STRENGTHS
@FORMS
def test_opposite_strengths_sum_to_two(kind: dict[str, Any], s: float) -> None:
    gate, x = make(kind), some(2, 5, 10)
    torch.testing.assert_close(gate(x, s) + gate(x, -s), torch.full((2, 5, 24), 2.0), atol=5e-6, rtol=0)


@FORMS
def test_negated_parameters_invert_the_gate_exactly(kind: dict[str, Any]) -> None:
    gate, x = make(kind), some(2, 5, 10)
    delta = gate.delta(x)
    with torch.no_grad():
        for parameter in (gate.weight, gate.up, gate.bias):
            if parameter is not None:
                parameter.neg_()
    assert torch.equal(gate.delta(x), -delta)


@STRENGTHS
@SIZES
def test_writing_multiplies_z_by_the_gate(granularity: str, s: float) -> None:
    gate, x, z = make(KINDS[0], granularity), some(2, 5, 10), some(2, 5, 4, 6, seed=2)
    values = gate(x, s)
    expected = z.clone()
    for head in range(4):
        for i in range(6):
            unit = {"element": head * 6 + i, "head": head, "layer": 0}[granularity]
            expected[:, :, head, i] *= values[:, :, unit]
    torch.testing.assert_close(write(z, gate.delta(x), s), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@SIZES
def test_strength_zero_returns_z_bit_for_bit_in_every_dtype(granularity: str, dtype: torch.dtype) -> None:
    gate, x, z = make(KINDS[0], granularity), some(2, 5, 10).to(dtype), some(2, 5, 4, 6).to(dtype)
    written = write(z, gate.delta(x), 0.0)
    assert written.dtype == dtype
    assert torch.equal(written, z)


def test_products_run_in_the_inputs_dtype_and_the_value_is_fp32() -> None:
    gate, x = make(KINDS[0]), some(2, 5, 10)
    rough = gate.delta(x.bfloat16())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, gate.delta(x), atol=0.05, rtol=0)
    assert all(parameter.dtype == torch.float32 for parameter in gate.parameters())


def test_a_gate_nearer_to_one_than_bfloat16_can_say_still_acts() -> None:
    gate = make(KINDS[2], seed=None)
    with torch.no_grad():
        gate.bias.fill_(0.006)
    delta = gate.delta(torch.zeros(50, 50, 10, dtype=torch.bfloat16))
    torch.testing.assert_close(delta, torch.full_like(delta, 0.003), rtol=1e-3, atol=0)
    assert (1 + delta).bfloat16().eq(1).all()  # so multiplying by a rounded g would do nothing
    z = torch.rand((50, 50, 4, 6), generator=torch.Generator().manual_seed(0)).bfloat16() + 1
    exact = (z.double() * (1 + delta.double().unflatten(-1, (4, 6)))).bfloat16()
    written = write(z, delta, 1.0)
    assert (written == exact).double().mean() > 0.99  # the product is rounded once, delta's own rounding apart
    assert (written != z).double().mean() > 0.5


@pytest.mark.parametrize("units", [0, 2, 5, 23, 25])
def test_a_gate_that_does_not_fit_z_is_refused(units: int) -> None:
    with pytest.raises(InputError, match=rf"does not fit z.*{units} units, z of 4 heads x 6"):
        write(some(1, 2, 4, 6), torch.zeros(1, 2, units), 1.0)


@pytest.mark.parametrize(
    "strength",
    [math.nan, math.inf, -math.inf, None, "much", [1.0], 1j, 10**400, torch.tensor(math.nan), torch.zeros(2)],
    ids=["nan", "inf", "-inf", "none", "word", "list", "complex", "huge", "nan tensor", "two numbers"],
)
def test_a_strength_that_is_no_finite_number_is_refused(strength: Any) -> None:
    with pytest.raises(InputError, match=r"strength must be a finite number.*\+1 for the trained gates, 0 for none"):
        check_strength(strength)


@pytest.mark.parametrize("strength", [1, 0, -1.5, torch.tensor(2.0), True])
def test_a_finite_number_of_any_kind_is_a_strength(strength: Any) -> None:
    assert check_strength(strength) == float(strength)
