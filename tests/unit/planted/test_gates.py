"""Laws of planted gates: selective where they were planted, along the direction, and nowhere else."""

import pytest
import torch

from mechgate.errors import InputError
from mechgate.planted.gates import planted_gates
from mechgate.planted.world import World


def test_planted_gates_follow_their_direction_decoys_do_not_and_the_rest_is_one(small: World) -> None:
    model = small.load()
    w = torch.nn.functional.normalize(torch.randn(48, generator=torch.Generator().manual_seed(0)), dim=0)
    gates = planted_gates(model, [(1, 2)], {1: w}, size=1.5, decoys=[(1, 4), (3, 0)])
    across = torch.randn(20, 48)
    across -= (across @ w)[:, None] * w
    x = torch.cat([across, across + 2 * w])
    delta = gates.gate(1).delta(x).unflatten(1, (6, 8))
    torch.testing.assert_close(delta[:20, 2], torch.zeros(20, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(delta[20:, 2], torch.full((20, 8), torch.tanh(torch.tensor(1.5)).item()))
    torch.testing.assert_close(delta[:, 4], torch.full((40, 8), torch.tanh(torch.tensor(0.375)).item()))
    assert not delta[:, [0, 1, 3, 5]].any()
    assert not gates.gate(3).delta(x).unflatten(1, (6, 8))[:, 1:].any()
    assert gates.layers == (1, 3)


def test_heads_need_a_direction_and_decoys_are_others(small: World) -> None:
    model, w = small.load(), torch.zeros(48)
    with pytest.raises(InputError, match="without a direction"):
        planted_gates(model, [(1, 2)], {2: w})
    with pytest.raises(InputError, match="each once"):
        planted_gates(model, [(1, 2)], {1: w}, decoys=[(1, 2)])
