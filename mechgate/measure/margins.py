"""Margins: how much more likely one answer is than another, in nats. Model in, numpy out, one row a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Example, Pair
from mechgate.data.tasks import stance_answers
from mechgate.errors import InputError, ModelError
from mechgate.model.prompts import Batch, Row, collate, encode, length_buckets
from mechgate.model.scoring import answer_logprobs, by_answer
from mechgate.progress import track

BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class MarginParts:
    """A content-bearing margin split by where it arises; the three add up to `margins`. Each is [n_pairs].

    `first_token`: the answers' first tokens; `stance`: the rest of their stance wordings; `content`: what follows,
    with the end-of-turn token.
    """

    first_token: np.ndarray
    stance: np.ndarray
    content: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.first_token + self.stance + self.content


def margins(
    model: Any, pairs: Sequence[Pair], *, batch_size: int = BATCH_SIZE, label: str | None = "margins"
) -> np.ndarray:
    """Mean log-probability a token of `matching` minus that of `not_matching`: [n_pairs], nats a token.

    An answer is its text plus the end-of-turn token. Positive means the model prefers the matching answer. Does not
    depend on `batch_size` or on the other pairs (1e-5 in fp32). Gates are those attached around the call. `label`
    None shows no progress.
    """
    rows = [encode(model, pair.messages, [pair.matching, pair.not_matching], claim=pair.claim) for pair in pairs]
    sums, counts = answer_scores(model, rows, batch_size=batch_size, label=label)
    per_token = sums / counts
    return per_token[:, 0] - per_token[:, 1]


def margin_parts(
    model: Any, pairs: Sequence[Pair], *, batch_size: int = BATCH_SIZE, label: str | None = "margins"
) -> MarginParts:
    """`margins` split into first token, stance and content; the pairs must say where their stance ends.

    Raises `InputError` for a pair without that, `ModelError` where the tokenizer merges stance and content.
    """
    rows = [encode(model, pair.messages, [pair.matching, pair.not_matching], claim=pair.claim) for pair in pairs]
    cuts = [_stance_tokens(model, pair, row) for pair, row in zip(pairs, rows, strict=True)]
    tokens = _answer_tokens(model, rows, batch_size, label)
    parts = np.zeros((len(pairs), 3))
    for i, (answers, cut) in enumerate(zip(tokens, cuts, strict=True)):
        for sign, values, n in zip((1, -1), answers, cut, strict=True):
            split = values[:1].sum(), values[1:n].sum(), values[n:].sum()
            parts[i] += sign * np.array(split) / len(values)
    return MarginParts(first_token=parts[:, 0], stance=parts[:, 1], content=parts[:, 2])


def stance_margins(
    model: Any,
    pairs: Sequence[Pair],
    answers: Sequence[tuple[str, str]] | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    label: str | None = "stance margins",
) -> np.ndarray:
    """Log-probability of agreeing minus disagreeing answers without content: [n_pairs, n_answers], summed nats.

    The primary metric: the same answers for true and for false claims, so that nothing but the stance differs. Only
    the pairs' conversations are read. `answers` defaults to the shipped wordings that training never sees. Average
    over axis 1 for one number a prompt.
    """
    rows = stance_rows(model, pairs, answers)
    sums, _ = answer_scores(model, rows, batch_size=batch_size, label=label)
    return sums[:, 0::2] - sums[:, 1::2]


def stance_rows(model: Any, pairs: Sequence[Pair], answers: Sequence[tuple[str, str]] | None = None) -> list[Row]:
    """The rows that `stance_margins` scores: each conversation with agreeing and disagreeing answers in turn.

    Whoever measures the same pairs many times encodes them once. Raises `InputError` without pairs or answers.
    """
    chosen = list(answers if answers is not None else stance_answers())
    if not chosen:
        raise InputError("stance margins need at least one (agreeing, disagreeing) pair of answers", got="none")
    if not pairs:
        raise InputError("there is nothing to measure", got="no pairs")
    flat = [text for both in chosen for text in both]
    return [encode(model, pair.messages, flat, claim=pair.claim) for pair in pairs]


def batch_margins(model: Any, batch: Batch) -> torch.Tensor:
    """Mean stance margin of each row of a batch made of `stance_rows`: [rows], nats. Gradients flow if they are enabled."""
    sums = by_answer(answer_logprobs(model, batch), batch)
    return (sums[:, 0::2] - sums[:, 1::2]).mean(dim=1)


def response_nll(
    model: Any,
    examples: Sequence[Example],
    *,
    end_of_turn: bool = True,
    batch_size: int = BATCH_SIZE,
    label: str | None = "likelihood",
) -> np.ndarray:
    """Mean negative log-likelihood of each example's response: [n_examples], nats a token.

    With its end-of-turn token, or without it, for replies that were cut before they ended.
    """
    rows = [encode(model, example.messages, [example.response]) for example in examples]
    tokens = _answer_tokens(model, rows, batch_size, label)
    return np.array([-(values if end_of_turn else values[:-1]).mean() for (values,) in tokens])


def answer_scores(
    model: Any, rows: list[Row], *, batch_size: int = BATCH_SIZE, label: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Summed log-probability (nats) and number of tokens of every answer: both [n_rows, n_answers].

    All rows have equally many answers; an answer counts with its end-of-turn token.
    """
    _check_some(rows)
    sums = np.zeros((len(rows), len(rows[0].answers)))
    for indices, batch, scores in _scored(model, rows, batch_size, label):
        sums[indices] = by_answer(scores, batch).double().cpu().numpy()
    return sums, np.array([[len(answer) for answer in row.answers] for row in rows])


def _answer_tokens(model: Any, rows: list[Row], batch_size: int, label: str | None) -> list[list[np.ndarray]]:
    """Log-probability of every token of every answer, by row and answer."""
    _check_some(rows)
    found: list[list[np.ndarray]] = [[] for _ in rows]
    for indices, batch, scores in _scored(model, rows, batch_size, label):
        values, branch = scores.double().cpu().numpy(), batch.branch.cpu().numpy()
        for i, index in enumerate(indices):
            found[index] = [values[i, branch[i] == k] for k in range(1, len(rows[index].answers) + 1)]
    return found


def _check_some(rows: list[Row]) -> None:
    if not rows:
        raise InputError("there is nothing to measure", got="no pairs")


def _scored(model: Any, rows: list[Row], batch_size: int, label: str | None) -> Any:
    device = next(model.original_model.parameters()).device
    for indices in track(length_buckets(list(map(len, rows)), batch_size), label):
        batch = collate([rows[i] for i in indices], device)
        with torch.inference_mode():
            scores = answer_logprobs(model, batch)
        yield indices, batch, scores


def _stance_tokens(model: Any, pair: Pair, row: Row) -> tuple[int, int]:
    if pair.stance is None:
        raise InputError(
            "a pair does not say where its stance ends", got=pair.id, do="set Pair.stance, or use margins()"
        )
    texts = [pair.matching[: pair.stance[0]], pair.not_matching[: pair.stance[1]]]
    cuts = []
    for answer, stance in zip(row.answers, encode(model, pair.messages, texts).answers, strict=True):
        n = len(stance) - (1 if stance[-1] == answer[-1] else 0)  # without its end-of-turn token
        if answer[:n] != stance[:n]:
            raise ModelError("the tokenizer merges stance and content, so the margin cannot be split", got=pair.id)
        cuts.append(n)
    return cuts[0], cuts[1]
