"""Null gates on a tiny model go through every test, and the same seed gives the same p-values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mechgate.calibration.models import TESTS, null_p_values, random_gates


def test_every_test_gives_p_values_of_its_grid(tmp_path: Path, tiny_chat_model: Callable[..., Any]) -> None:
    model = tiny_chat_model(tmp_path / "model", num_hidden_layers=1)
    rows = null_p_values(lambda seed: model, model_seed=0, n=1, seed=0)
    assert list(rows) == ["model", "gates", *TESTS]
    for name, (_, step) in TESTS.items():
        p = float(rows[name].iloc[0])
        assert 0 < p <= 1
        assert abs(p / step - round(p / step)) < 1e-9 or name.startswith("atlas")


def test_random_gates_are_random_by_seed_alone(chat: Any) -> None:
    one, same, other = (random_gates(chat, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
