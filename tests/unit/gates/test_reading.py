"""Laws of what gates read: a planted direction is the first one, and drives are what the gate itself computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.nulls import null_gates
from mechgate.gates.reading import mean_drives, read_directions


@pytest.mark.parametrize("rank", [None, 1])
def test_a_gate_that_reads_one_direction_gives_that_one_and_no_other(chat: Any, rank: int | None) -> None:
    gates, d = GateSet.identity(chat, rank=rank), torch.randn(32, generator=torch.Generator().manual_seed(1))
    gate = gates.gate(1)
    with torch.no_grad():
        if gate.weight is not None:
            gate.weight.copy_(torch.randn(len(gate.weight), 1, generator=torch.Generator().manual_seed(2)) @ d[None])
        else:
            assert gate.up is not None
            assert gate.down is not None
            gate.up.fill_(0.5)
            gate.down.copy_(d[None])
    found = read_directions(gates, 4)
    assert [len(found[layer]) for layer in gates.layers] == [0, 1, 0]
    assert abs(found[1][0] @ (d / d.norm()).numpy()) == pytest.approx(1, abs=1e-6)


def test_they_are_orthonormal_and_the_most_sensitive_first(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat))
    for layer, basis in read_directions(gates, 5).items():
        np.testing.assert_allclose(basis @ basis.T, np.eye(5), atol=1e-9)
        weight = gates.gate(layer).weight
        assert weight is not None
        gains = np.linalg.norm(weight.detach().double().numpy() @ basis.T, axis=0)
        np.testing.assert_allclose(gains, np.linalg.svd(weight.detach().double().numpy())[1][:5], rtol=1e-6)
    signs = null_gates(gates, family="row-sign", seed=0)
    for a, b in zip(read_directions(gates, 2).values(), read_directions(signs, 2).values(), strict=True):
        np.testing.assert_allclose(abs(a @ b.T), np.eye(2), atol=1e-5)


def test_static_gates_read_nothing(chat: Any) -> None:
    gates = GateSet.identity(chat, input="static")
    assert all(basis.shape == (0, 32) for basis in read_directions(gates).values())
    assert (mean_drives(gates, np.ones((2, 3, 32), dtype=np.float32)) == 0).all()


def test_drives_are_the_mean_size_over_units(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(chat, "head", layers=[0, 2]))
    x = np.random.default_rng(0).standard_normal((5, 3, 32)).astype(np.float32)
    found = mean_drives(gates, x)
    assert found.shape == (5, 2)
    for column, layer in enumerate((0, 2)):
        gate = gates.gate(layer)
        assert gate.weight is not None
        slow = np.abs(x[:, layer] @ gate.weight.detach().numpy().T + gate.bias.detach().numpy()).mean(axis=1)
        np.testing.assert_allclose(found[:, column], slow, rtol=1e-5)
    with pytest.raises(InputError, match="not those of these gates"):
        mean_drives(gates, x[:, :2])
    with pytest.raises(InputError, match="at least one"):
        read_directions(gates, 0)
