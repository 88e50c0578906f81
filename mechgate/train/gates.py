"""Training gates on a frozen model."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mechgate.data.pairs import Example, Pair
from mechgate.errors import TrainingError
from mechgate.gates.gateset import GateSet
from mechgate.model.prompts import Batch
from mechgate.model.scoring import without_unread
from mechgate.train.loop import TrainConfig, TrainRecord, train
from mechgate.train.objectives import Objective, check_objective_data, heads_at_work

__all__ = ["TrainConfig", "TrainRecord", "train_gates"]


def train_gates(
    model: Any,
    gates: GateSet,
    examples: list[Example],
    config: TrainConfig,
    *,
    kept: Sequence[Example | str] = (),
    opposite: Sequence[Example] = (),
    spared: Sequence[Pair] = (),
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
) -> TrainRecord:
    """Train `gates` in place at strength +1 on the responses of `examples`; the model stays as it is.

    What else is asked of them is `config.objective`: "contrastive" needs `kept`, on whose responses (or on plain
    texts) the gated model must stay near the base; "two-sided" needs `opposite`, answers that strength -1 is trained
    towards, and takes `kept` as well. Both take `spared`: pairs whose margin of answers (summed nats) must stay the
    base's, at either strength. "The base" is `model` without these gates.

    Returns the record of every step, which also becomes `gates.history`. Nothing is written unless `checkpoint`
    names a file: training then continues from it if it is there. Raises `TrainingError` (no examples, a loss that is
    not finite, a foreign checkpoint, gates that are a scaled view), `DataError` (an example that cannot be used) and
    `InputError` (data that the objective needs and did not get, or got and does not use).
    """
    check_objective_data(config, kept, opposite, spared)
    if gates.scale != 1.0:
        raise TrainingError(
            "a scaled view of gates cannot be trained", got=f"scale {gates.scale:+g}", do="train the gates themselves"
        )
    sums: list[torch.Tensor] = []
    penalties: list[torch.Tensor] = []

    @contextlib.contextmanager
    def gated(batch: Batch) -> Iterator[None]:
        sums.clear()
        penalties.clear()
        real = without_unread(batch)[0].mask[:, batch.prefix :]

        def observe(delta: torch.Tensor) -> None:
            if delta.shape[:2] == real.shape:  # the shared prefix, run as a batch of one, is left out
                sums.append(delta.detach()[real].abs().mean())
                if config.sparsity:
                    penalties.append(heads_at_work(delta[real], gates.shape.n_heads))

        with gates.attached(model, 1.0, observe=observe):
            yield

    objective = Objective(model, gates, config, kept, opposite, spared)
    gates.requires_grad_(True)
    try:
        record = train(
            model,
            dict(gates.named_parameters()),
            examples,
            config,
            label="training gates",
            step_context=gated,
            penalty=(lambda: torch.stack(penalties).sum()) if config.sparsity else None,
            terms=objective.terms,
            activity=lambda: torch.stack(sums).mean().item(),
            checkpoint=Path(checkpoint) if checkpoint is not None else None,
            checkpoint_every=checkpoint_every,
            other_data=objective.data,
        )
    finally:
        gates.requires_grad_(False)
    gates.history = record.to_json()
    return record
