"""What an objective adds to the imitation of a step: KL to the base, margins to the base's, opposite answers, heads at work.

Every step imitates the examples at strength +1. A term of its own is drawn for the same step from (seed, step) alone,
so that a training that goes on from a checkpoint draws what it would have drawn.

KL is taken at strengths +1 and -1 in turn rather than at both in a step. Near the base it is a quadratic form of
g - 1, the same for both signs, so that the second sign on the same data says little that the first did not; on
other data it says as much as any step. Margins of spared pairs are held the same way. KL alone would not hold them: it
weighs what the base would say itself, and either of a pair's answers may be an unlikely text to it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from mechgate.data.pairs import Example, Pair, data_hash
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.model.prompts import Batch, Row, collate, length_buckets
from mechgate.model.scoring import answer_logprobs, by_answer, logits_of, predictor_hidden
from mechgate.train.loop import Term, TrainConfig, encode_examples, epoch_batches, response_loss

_CHUNK = 128  # tokens whose logits are alive at a time


def check_objective_data(
    config: TrainConfig, kept: Sequence[Any], opposite: Sequence[Any], spared: Sequence[Any] = ()
) -> None:
    """Raise `InputError` for data that the objective needs and lacks, or has and does not use."""
    name = config.objective
    if name == "contrastive" and not len(kept) and not len(spared):
        raise InputError(
            "the objective contrastive needs data to keep",
            got="kept and spared are empty",
            do="pass kept=[...] or spared=[...]",
        )
    if name == "two-sided" and not len(opposite):
        raise InputError(
            "the objective two-sided needs answers for strength -1", got="opposite is empty", do="pass opposite=[...]"
        )
    if len(opposite) and name != "two-sided":
        raise InputError(
            f"the objective {name} does not use opposite answers",
            got=f"{len(opposite)} in opposite",
            do="leave them out, or train with objective='two-sided'",
        )
    if (len(kept) or len(spared)) and name == "imitate":
        raise InputError(
            "the objective imitate keeps nothing",
            got=f"{len(kept)} in kept, {len(spared)} in spared",
            do="leave them out, or train with objective='contrastive'",
        )
    if not len(kept) and config.kl_weight != 1.0:
        raise InputError(
            "without kept data there is no KL to weigh", got=f"kl_weight {config.kl_weight:g}", do="pass kept=[...]"
        )
    if not len(spared) and config.margin_weight != 1.0:
        raise InputError(
            "without spared pairs there are no margins to weigh",
            got=f"margin_weight {config.margin_weight:g}",
            do="pass spared=[...]",
        )


class Objective:
    """The terms that `config.objective` adds to each step of training `gates` on `model`.

    `kept`, `opposite` and `spared` are as for `train_gates`. `data` tells them apart from others, empty for imitation.
    Margins of spared pairs in the base are measured once, here. Raises `DataError` for a conversation that cannot be used.
    """

    def __init__(
        self,
        model: Any,
        gates: GateSet,
        config: TrainConfig,
        kept: Sequence[Example | str],
        opposite: Sequence[Example],
        spared: Sequence[Pair] = (),
    ):
        self._model, self._gates, self._config = model, gates, config
        given: dict[str, Sequence[Example | str]] = {"kept": kept, "opposite": opposite}
        given = {name: data for name, data in given.items() if len(data)}
        self._rows = {name: encode_examples(model, data, f"{name} example") for name, data in given.items()}
        self.data = {name: {"n": len(data), "data_hash": data_hash(data)} for name, data in given.items()}
        if len(spared):
            answers = [pair.as_example(answer) for pair in spared for answer in ("matching", "not_matching")]
            self.data["spared"] = {"n": len(spared), "data_hash": data_hash(answers)}
            rows = encode_examples(model, answers, "spared answer")
            self._rows["spared"] = [
                Row(prompt=one.prompt, answers=(*one.answers, *other.answers))
                for one, other in zip(rows[::2], rows[1::2], strict=True)
            ]
            self._margins = _base_margins(model, self._rows["spared"], config.batch_size)

    def terms(self, step: int) -> Iterator[Term]:
        """The terms of one step, each computed when it is asked for."""
        model = self._model
        if "opposite" in self._rows:
            batch, used = self._drawn("opposite", step)
            with self._gates.attached(model, -1.0):
                loss = response_loss(model, batch)
            yield Term(name="opposite", weight=1.0, loss=loss, used=used)
        if "kept" in self._rows:
            batch, used = self._drawn("kept", step)
            loss = kl_to_base(model, self._gates, batch, 1.0 if step % 2 == 0 else -1.0)
            yield Term(name="kl", weight=self._config.kl_weight, loss=loss, used=used)
        if "spared" in self._rows:
            batch, used, indices = self._chosen("spared", step)
            with self._gates.attached(model, 1.0 if step % 2 == 0 else -1.0):
                found = _margins(model, batch)
            loss = (found - self._margins[indices].to(found.device)).pow(2).mean()
            yield Term(name="margin", weight=self._config.margin_weight, loss=loss, used=used)

    def _drawn(self, name: str, step: int) -> tuple[Batch, str]:
        return self._chosen(name, step)[:2]

    def _chosen(self, name: str, step: int) -> tuple[Batch, str, list[int]]:
        rows = self._rows[name]
        indices = drawn(rows, self._config, step, name)
        device = next(self._gates.parameters()).device
        return collate([rows[i] for i in indices], device), f"{name} examples {indices}", indices


def _margins(model: Any, batch: Batch) -> torch.Tensor:
    """Log-probability of the first answer minus that of the second: [batch], summed nats."""
    sums = by_answer(answer_logprobs(model, batch), batch)
    return sums[:, 0] - sums[:, 1]


def _base_margins(model: Any, rows: list[Row], batch_size: int) -> torch.Tensor:
    found = torch.zeros(len(rows))
    device = next(model.original_model.parameters()).device
    with torch.no_grad():
        for indices in length_buckets(list(map(len, rows)), batch_size):
            found[indices] = _margins(model, collate([rows[i] for i in indices], device)).cpu()
    return found


def drawn(rows: list[Row], config: TrainConfig, step: int, stream: str) -> list[int]:
    """Row indices of the batch that goes with `step`: all rows once, in an order of `stream`, then all once again."""
    n_batches = -(-len(rows) // config.batch_size)
    return epoch_batches(rows, config, step // n_batches, stream)[step % n_batches]


def kl_to_base(model: Any, gates: GateSet, batch: Batch, strength: float) -> torch.Tensor:
    """Mean KL(base || gated at `strength`) over the batch's response tokens, in nats; rows have one answer each.

    The base runs without gradient. Logits exist for a few tokens at a time, also when gradients are computed.
    """
    with torch.no_grad():
        base = predictor_hidden(model, batch)
    with gates.attached(model, strength):
        gated = predictor_hidden(model, batch)
    sums = []
    for start in range(0, len(base), _CHUNK):
        part = slice(start, start + _CHUNK)
        # Logits are computed again for the gradient: kept, they would take more memory than the rest of the step.
        found = checkpoint(_kl, model, base[part], gated[part], use_reentrant=False, preserve_rng_state=False)
        assert isinstance(found, torch.Tensor)
        sums.append(found)
    return torch.stack(sums).sum() / len(base)


def _kl(model: Any, base: torch.Tensor, gated: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        wanted = torch.log_softmax(logits_of(model, base), dim=-1)
    found = torch.log_softmax(logits_of(model, gated), dim=-1)
    return (wanted.exp() * (wanted - found)).sum()


def heads_at_work(delta: torch.Tensor, n_heads: int) -> torch.Tensor:
    """The sum over one layer's heads of the RMS of g - 1; `delta` = g - 1 of some tokens [tokens, units].

    A group lasso over heads, of what their gates do and not of their weights: W's size means something else with
    every input, in low rank it is no sum over heads, and doses are RMS(g - 1) everywhere in mechgate. A layer's one
    value counts for each head. The gradient of a head at exactly 0 is 0. Adam does not step onto 0, so that unneeded
    heads end near it.
    """
    if delta.shape[-1] == 1:
        delta = delta.expand(-1, n_heads)
    heads = delta.unflatten(-1, (n_heads, -1))  # [tokens, heads, units a head]
    return torch.linalg.vector_norm(heads, dim=(0, 2)).sum() / (heads.shape[0] * heads.shape[2]) ** 0.5
