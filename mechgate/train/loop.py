"""The one training loop: cross-entropy on response tokens, for gates and for LoRA hosts alike."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from mechgate.data.pairs import Example, data_hash
from mechgate.errors import DataError, InputError, TrainingError, check_choice
from mechgate.model.loading import fingerprint
from mechgate.model.prompts import Batch, Row, collate, encode_response, length_buckets
from mechgate.model.scoring import answer_logprobs
from mechgate.progress import track
from mechgate.provenance import stable_hash
from mechgate.seeding import rng
from mechgate.train import checkpoints

OBJECTIVES = ("imitate", "contrastive", "two-sided")
_POOL = 16  # batches that are sorted by length together: little padding, still a different mixture every epoch


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. Defaults are tuned for gates on the default model; `paper()` is what the paper did.

    `lr` falls linearly to 0 after a linear rise over the first `warmup` share of the steps; gradients are clipped
    to norm `clip`. `objective`, all in nats a response token of a batch:

    - "imitate" (Alignment Gating, arXiv 2606.09068): mean cross-entropy on the examples at strength +1;
    - "contrastive": that, and `kl_weight` times KL(base || gated) on kept data, at strengths +1 and -1 in turn, and
      `margin_weight` times the squared change of spared pairs' margins (nats squared), if there are any;
    - "two-sided": imitation, and as much cross-entropy on opposite answers at strength -1; KL and margins too, if data
      are kept or spared.

    `sparsity` weighs a group lasso over heads, whatever the objective: the sum over layers and heads of the RMS of
    g - 1. See `mechgate.train.objectives`.
    """

    seed: int
    epochs: int = 2
    batch_size: int = 8
    lr: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0
    objective: str = "imitate"
    kl_weight: float = 1.0
    margin_weight: float = 1.0
    sparsity: float = 0.0

    def __post_init__(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        bad = [n for n in ("epochs", "batch_size", "lr", "clip") if not 0 < getattr(self, n) < float("inf")]
        bad += [n for n in ("epochs", "batch_size") if n not in bad and not isinstance(getattr(self, n), int)]
        weights = ("weight_decay", "kl_weight", "margin_weight", "sparsity")
        if bad or not 0 <= self.warmup < 1 or not all(0 <= getattr(self, n) < float("inf") for n in weights):
            raise InputError(
                "a training setting cannot be used",
                got={n: getattr(self, n) for n in (*bad, "warmup", *weights)},
                allowed="epochs, batch_size, lr, clip > 0, the first two whole; 0 <= warmup < 1; weight_decay >= 0; "
                "kl_weight, margin_weight and sparsity >= 0",
            )
        if self.objective == "imitate" and self.kl_weight != 1.0:
            raise InputError(
                "the objective imitate has no KL to weigh", got=f"kl_weight {self.kl_weight:g}", do="leave it out"
            )

    @classmethod
    def paper(cls, *, seed: int) -> "TrainConfig":
        """Alignment Gating's own settings (arXiv 2606.09068): lr 1e-4, batch 2, 2 epochs."""
        return cls(seed=seed, lr=1e-4, batch_size=2)


@dataclass(kw_only=True)
class TrainRecord:
    """What happened, a value a step: `loss` (what was minimised; for imitation nats a response token), gradient norm
    before clipping, and for gates the mean |g - 1| over the tokens run behind the shared prefix. `parts` has what the
    loss was added up from, before weights: "imitate", "kl" and "margin" (strength +1 at even steps, -1 at odd ones),
    "opposite", "sparsity". `other_data` says what an objective had beside the examples. `seconds` is the time spent in steps."""

    config: TrainConfig
    data_hash: str
    n_examples: int
    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    gate_activity: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    other_data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values, for gate files and results."""
        return {**asdict(self), "config": asdict(self.config)}


StepContext = Callable[[Batch], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A loss that is added to a step's imitation, from a forward pass of its own. `used` names the data, for errors."""

    name: str
    weight: float
    loss: torch.Tensor
    used: str


def encode_examples(model: Any, examples: Sequence[Example | str], what: str = "training example") -> list[Row]:
    """Tokenise training examples, or plain texts; `what` they are is for errors.

    Raises `TrainingError` for none, `DataError` naming the one that cannot be used.
    """
    if not examples:
        raise TrainingError("there is nothing to train on", got="no examples", do="pass at least one Example")
    rows = []
    for i, example in enumerate(examples):
        try:
            rows.append(encode_response(model, example))
        except DataError as error:
            raise DataError(f"{what} {i}: {error.what}", got=error.got, allowed=error.allowed, do=error.do) from error
    return rows


def epoch_batches(rows: list[Row], config: TrainConfig, epoch: int, stream: str = "order") -> list[list[int]]:
    """Row indices of every batch of one epoch: shuffled by seed, stream and epoch, then bucketed by length in pools."""
    draw = rng(config.seed, stream, epoch)
    order = draw.permutation(len(rows))
    pool = config.batch_size * _POOL
    batches = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        batches += [[int(part[i]) for i in b] for b in length_buckets([len(rows[i]) for i in part], config.batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def schedule(rows: list[Row], config: TrainConfig) -> list[list[int]]:
    """Row indices of every step, all epochs."""
    return [batch for epoch in range(config.epochs) for batch in epoch_batches(rows, config, epoch)]


def response_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the batch's response tokens, in nats."""
    return -answer_logprobs(model, batch).sum() / batch.response_mask.sum()


def train(
    model: Any,
    parameters: dict[str, torch.nn.Parameter],
    examples: list[Example],
    config: TrainConfig,
    *,
    label: str,
    step_context: StepContext = lambda batch: contextlib.nullcontext(),
    penalty: Callable[[], torch.Tensor] | None = None,
    terms: Callable[[int], Iterator[Term]] = lambda step: iter(()),
    activity: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 50,
    settings: Any = None,
    other_data: dict[str, Any] | None = None,
) -> TrainRecord:
    """Train `parameters` in place; `step_context` wraps each forward pass on examples, `activity` is read after it.

    To its cross-entropy are added `penalty` of the same pass, weighed by `config.sparsity`, and the `terms` of the
    step's number, which are computed and differentiated one after the other, so that one graph is alive at a time.

    With `checkpoint`, the state is written there every `checkpoint_every` steps and after the last, and an existing
    file is continued to bit-identical parameters (CPU, fp32, same machine, threads and versions). `settings` is what
    else sets this run apart from others (JSON-like), so that their checkpoints are refused; `other_data`, which the
    record gets too, does so where there is any.
    Raises `TrainingError` for no data, a foreign checkpoint, and a loss or gradient that is not finite (before it
    reaches the parameters).
    """
    if checkpoint_every < 1:
        raise InputError("checkpoint_every must be positive", got=checkpoint_every)
    rows = encode_examples(model, examples)
    steps = schedule(rows, config)
    record = TrainRecord(
        config=config, data_hash=data_hash(examples), n_examples=len(examples), other_data=other_data or {}
    )
    trained = list(parameters.values())
    optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    shapes = {name: list(parameter.shape) for name, parameter in parameters.items()}
    dtype = str(next(model.original_model.parameters()).dtype)  # fingerprints are the same in all dtypes
    told = [_said(config), record.data_hash, fingerprint(model), dtype, shapes, settings]
    identity = stable_hash([*told, other_data] if other_data else told)
    if checkpoint is not None:
        checkpoints.restore(checkpoint, identity, parameters, optimizer, record)
    whole = True  # parameters, optimiser and record are those of the same step
    try:
        for number in track(range(len(record.loss), len(steps)), label):
            started = time.perf_counter()
            batch = collate([rows[i] for i in steps[number]], trained[0].device)
            with step_context(batch):
                loss = response_loss(model, batch)
            parts = {"imitate": loss.detach()}
            if penalty is not None:
                parts["sparsity"] = (added := penalty()).detach()
                loss = loss + config.sparsity * added
            used = f"examples {steps[number]}, the first: {examples[steps[number][0]].messages[-1]['content'][:60]!r}"
            _check_finite(loss, "loss", number, used)
            optimizer.zero_grad()
            loss.backward()
            loss = loss.detach()
            for term in terms(number):
                _check_finite(term.loss, f"loss ({term.name})", number, term.used)
                (term.weight * term.loss).backward()
                parts[term.name] = term.loss.detach()
                loss = loss + term.weight * parts[term.name]
            norm = torch.nn.utils.clip_grad_norm_(trained, config.clip)
            _check_finite(norm, "gradient", number, used)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * lr_factor(number, len(steps), config.warmup)
            whole = False
            optimizer.step()
            record.loss.append(loss.item())
            for name, value in parts.items():
                record.parts.setdefault(name, []).append(value.item())
            record.grad_norm.append(norm.item())
            if activity is not None:
                record.gate_activity.append(activity())
            record.seconds += time.perf_counter() - started
            whole = True
            # Only between steps: a state written from the middle of one could not be continued exactly.
            if checkpoint is not None and ((number + 1) % checkpoint_every == 0 or number + 1 == len(steps)):
                checkpoints.write(checkpoint, identity, parameters, optimizer, record)
    except KeyboardInterrupt:
        if checkpoint is not None and whole and record.loss:
            checkpoints.write(checkpoint, identity, parameters, optimizer, record)
        raise
    return record


def lr_factor(step: int, n_steps: int, warmup: float) -> float:
    """Share of the full learning rate at `step` (from 0): a linear rise over `warmup`, then linearly to 0."""
    rise = max(1, round(warmup * n_steps))
    return min((step + 1) / rise, (n_steps - step) / max(1, n_steps - rise + 1))


def _said(config: TrainConfig) -> dict[str, Any]:
    """The settings that a checkpoint answers for. Those that were added later count where they are not the default,
    so that checkpoints from before are still this run's."""
    later = {f.name: f.default for f in fields(config) if f.name in ("kl_weight", "margin_weight", "sparsity")}
    return {n: v for n, v in asdict(config).items() if n not in later or v != later[n]}


def _check_finite(value: torch.Tensor, what: str, step: int, used: str) -> None:
    if not torch.isfinite(value):
        raise TrainingError(
            f"the {what} is not finite at step {step}; the parameters still hold the state before it",
            got=f"{what} {value.item()}, {used}",
            do="lower lr, or train with dtype='float32'",
        )
