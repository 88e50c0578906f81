"""Training gates on a frozen model."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mechgate.data.pairs import Example
from mechgate.errors import TrainingError
from mechgate.gates.gateset import GateSet
from mechgate.model.prompts import Batch
from mechgate.model.scoring import without_unread
from mechgate.train.loop import TrainConfig, TrainRecord, train

__all__ = ["TrainConfig", "TrainRecord", "train_gates"]


def train_gates(
    model: Any,
    gates: GateSet,
    examples: list[Example],
    config: TrainConfig,
    *,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
) -> TrainRecord:
    """Train `gates` in place at strength +1 on the responses of `examples`; the model stays as it is.

    Returns the record of every step, which also becomes `gates.history`. Nothing is written unless `checkpoint`
    names a file: training then continues from it if it is there. Raises `TrainingError` (no examples, a loss that is
    not finite, a foreign checkpoint, gates that are a scaled view) and `DataError` (an example that cannot be used).
    """
    if gates.scale != 1.0:
        raise TrainingError(
            "a scaled view of gates cannot be trained", got=f"scale {gates.scale:+g}", do="train the gates themselves"
        )
    sums: list[torch.Tensor] = []

    @contextlib.contextmanager
    def gated(batch: Batch) -> Iterator[None]:
        sums.clear()
        real = without_unread(batch)[0].mask[:, batch.prefix :]

        def observe(delta: torch.Tensor) -> None:
            if delta.shape[:2] == real.shape:  # the shared prefix, run as a batch of one, is left out
                sums.append(delta.detach()[real].abs().mean())

        with gates.attached(model, 1.0, observe=observe):
            yield

    gates.requires_grad_(True)
    try:
        record = train(
            model,
            dict(gates.named_parameters()),
            examples,
            config,
            label="training gates",
            step_context=gated,
            activity=lambda: torch.stack(sums).mean().item(),
            checkpoint=Path(checkpoint) if checkpoint is not None else None,
            checkpoint_every=checkpoint_every,
        )
    finally:
        gates.requires_grad_(False)
    gates.history = record.to_json()
    return record
