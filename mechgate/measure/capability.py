"""What should stay as it was: four-choice items, and plain text on which a changed model is held against its base."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mechgate.data.items import ChoiceItem
from mechgate.data.pairs import Example
from mechgate.data.sets import asked
from mechgate.errors import InputError
from mechgate.measure.margins import answer_scores
from mechgate.model.prompts import Batch, Row, collate, encode, encode_response, length_buckets
from mechgate.model.scoring import logits_of, predictor_hidden
from mechgate.progress import track

_CHUNK = 128
Change = Callable[[], AbstractContextManager[object]]
"""Changes the model for a block: `lambda: gates.attached(model, -1.0)`."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Four-choice results, one row an item: `right` bool [n]; `margin` [n], nats a token: the right choice's mean
    log-probability minus that of the best wrong one."""

    right: np.ndarray
    margin: np.ndarray


def four_choice(
    model: Any,
    items: Sequence[ChoiceItem],
    *,
    system: str | None = None,
    batch_size: int = 16,
    label: str | None = "items",
) -> Choices:
    """Score each choice as the answer to its question: mean log-probability a token, the highest is chosen.

    All four are branches of one row, so the question is run once. `system` is a system message before each question.
    Chance is 25%.
    """
    before = () if system is None else ({"role": "system", "content": system},)
    rows = [encode(model, (*before, *asked(i.question)), [_answer(choice) for choice in i.choices]) for i in items]
    sums, counts = answer_scores(model, rows, batch_size=batch_size, label=label)
    scores = sums / counts
    index = np.arange(len(items)), np.array([item.answer for item in items])
    right = scores[index]
    scores[index] = -np.inf
    margin = right - scores.max(axis=1)
    return Choices(right=margin > 0, margin=margin)


def _answer(choice: str) -> str:
    return f"{choice[0].upper()}{choice[1:]}."


@dataclass(frozen=True, kw_only=True)
class Neutral:
    """A changed model on plain text, one row a text: `tokens` [n] predicted; `nll` [n] summed over them (nats);
    `kl` [n]: KL(base || changed), summed over the same tokens (nats)."""

    tokens: np.ndarray
    nll: np.ndarray
    kl: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class NeutralBase:
    """Plain texts and what a model makes of them, kept for arms that come one after another.

    `tokens` [n_texts] are predicted in each; `batches` hold the texts' numbers, the batch and the base's hidden states.
    """

    tokens: np.ndarray
    batches: tuple[tuple[list[int], Batch, torch.Tensor], ...]


def neutral_base(
    model: Any, texts: Sequence[str | Example], *, batch_size: int = 16, label: str | None = None
) -> NeutralBase:
    """Run plain texts (`str`) and chat responses (`Example`) through `model` once, without gates.

    700 tokens of the default model take 2 MB. Raises `InputError` for no texts.
    """
    if not texts:
        raise InputError("there is nothing to measure", got="no texts")
    return NeutralBase(
        tokens=_tokens(rows := _rows(model, texts)), batches=tuple(_batches(model, rows, batch_size, label))
    )


def neutral_text(
    model: Any,
    texts: Sequence[str | Example] | NeutralBase,
    arms: Sequence[Change | None],
    *,
    base: Any = None,
    batch_size: int = 16,
    label: str | None = "neutral text",
) -> list[Neutral]:
    """How well each arm predicts plain texts (`str`) and chat responses (`Example`), and how far it is from the base.

    An arm is a change of `model`, or None for `model` as it is. `base` is the model that KL is taken from, and
    defaults to `model` without gates; it must have the same vocabulary. A batch runs the base once for all arms (what
    `neutral_base(base)` keeps of that can be passed as `texts`), and logits exist for a few tokens at a time. Batching
    changes nothing (1e-5 a token in fp32).
    """
    origin = model if base is None else base
    if isinstance(texts, NeutralBase):
        tokens, batches = texts.tokens, texts.batches
    else:
        rows = _rows(origin, texts)
        tokens, batches = _tokens(rows), _batches(origin, rows, batch_size, label)
    if not len(tokens) or not arms:
        raise InputError("there is nothing to measure", got=f"{len(tokens)} texts, {len(arms)} arms")
    sums = np.zeros((len(arms), 2, len(tokens)))
    for indices, batch, reference in batches:
        owner, targets = batch.response_mask.nonzero()[:, 0].cpu().numpy(), batch.tokens[batch.response_mask]
        with torch.inference_mode():
            for k, change in enumerate(arms):
                if change is None:
                    hidden = reference if base is None else predictor_hidden(model, batch)
                else:
                    with change():
                        hidden = predictor_hidden(model, batch)
                both = _nll_and_kl(model, hidden, origin, reference, targets)
                for j in range(2):
                    sums[k, j, indices] = np.bincount(owner, weights=both[j], minlength=len(indices))
    return [Neutral(tokens=tokens, nll=arm[0], kl=arm[1]) for arm in sums]


def _rows(model: Any, texts: Sequence[str | Example]) -> list[Row]:
    return [encode_response(model, text) for text in texts]


def _tokens(rows: list[Row]) -> np.ndarray:
    return np.array([len(row.answers[0]) for row in rows])


def _batches(
    model: Any, rows: list[Row], batch_size: int, label: str | None
) -> Iterator[tuple[list[int], Batch, torch.Tensor]]:
    device = next(model.original_model.parameters()).device
    for indices in track(length_buckets(list(map(len, rows)), batch_size), label):
        batch = collate([rows[i] for i in indices], device)
        with torch.inference_mode():
            hidden = predictor_hidden(model, batch)
        yield indices, batch, hidden


def _nll_and_kl(model: Any, hidden: Any, base: Any, reference: Any, targets: Any) -> np.ndarray:
    found = np.zeros((2, len(targets)))
    for start in range(0, len(targets), _CHUNK):
        part = slice(start, start + _CHUNK)
        changed = torch.log_softmax(logits_of(model, hidden[part]), dim=-1)
        unchanged = torch.log_softmax(logits_of(base, reference[part]), dim=-1)
        found[0, part] = -changed.gather(-1, targets[part, None])[:, 0].double().cpu().numpy()
        found[1, part] = (unchanged.exp() * (unchanged - changed)).sum(-1).double().cpu().numpy()
    return found
