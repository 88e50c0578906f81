"""Log-probabilities of answer tokens, without work nobody reads. Training and measuring both stand on this.

Four savings, all exact: the tokens that all rows share are run once, as a batch of one, and their keys and values
are reused (gradients flow through them); answers to one prompt are branches of one row; the last token of an answer,
which predicts nothing, is not run; and logits are computed only at the positions that predict an answer token.
"""

from typing import Any

import torch

from mechgate.errors import ModelError
from mechgate.model.prompts import PAD, Batch
from mechgate.model.roles import NO_ROLE, running

_CHUNK = 128  # rows of logits alive at a time where no gradient is needed (128 x 49,152 fp32 = 25 MB)


def answer_logprobs(model: Any, batch: Batch) -> torch.Tensor:
    """Log-probability (nats) of each answer token given what its branch saw before it.

    Returns fp32 [batch, pos], 0.0 outside `batch.response_mask`. Gradients flow if they are enabled.
    """
    where = batch.response_mask[:, batch.prefix :].nonzero(as_tuple=True)
    run, place = without_unread(batch)
    predictor = _predictors(batch)[where] + batch.prefix
    hidden = final_hidden(model, run)  # [batch, pos of run - prefix, d_model]
    source = place[where[0], predictor] - batch.prefix + where[0] * hidden.shape[1]
    needed, inverse = source.unique(return_inverse=True)  # answers to one prompt share their first predictor
    targets = batch.tokens[:, batch.prefix :][where]
    picked = hidden.reshape(-1, hidden.shape[-1])[needed]
    if torch.is_grad_enabled():
        values = _log_softmax_at(model, picked, inverse, targets)
    else:
        values = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(needed), _CHUNK):
            inside = (inverse >= start) & (inverse < start + _CHUNK)
            values[inside] = _log_softmax_at(
                model, picked[start : start + _CHUNK], inverse[inside] - start, targets[inside]
            )
    scores = torch.zeros(batch.tokens.shape, dtype=torch.float32, device=hidden.device)
    return scores.index_put((where[0], where[1] + batch.prefix), values)


def predictor_hidden(model: Any, batch: Batch) -> torch.Tensor:
    """The final hidden state that predicts each answer token, in the order of `batch.response_mask`: [n, d_model].

    For rows with one answer. Whoever wants logits of several models at the same tokens makes them from this, a few
    rows at a time (`logits_of`).
    """
    run, place = without_unread(batch)
    row, token = batch.response_mask[:, batch.prefix :].nonzero(as_tuple=True)
    hidden = final_hidden(model, run)
    predictor = _predictors(batch)[row, token] + batch.prefix
    return hidden[row, place[row, predictor] - batch.prefix]


def by_answer(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sum token values [batch, pos] over each answer: [batch, n_answers]."""
    index = batch.branch.clamp(min=0)
    sums = torch.zeros(len(values), batch.n_answers + 1, dtype=values.dtype, device=values.device)
    return sums.scatter_add(1, index, values * batch.response_mask)[:, 1:]


def final_hidden(model: Any, batch: Batch) -> torch.Tensor:
    """The model's last hidden state, after its final norm, of all tokens behind the shared prefix.

    Returns [batch, pos - prefix, d_model] in the model's dtype.
    """
    from transformers import DynamicCache

    hf = model.original_model
    past = None
    if batch.prefix:
        past = DynamicCache()  # plain, also for sliding windows: the masks below are the whole truth
        tokens = batch.tokens[:1, : batch.prefix]
        branch, positions = torch.zeros_like(tokens), torch.arange(batch.prefix, device=tokens.device)[None]
        with running(batch.roles[:1, : batch.prefix]):
            hf.base_model(
                input_ids=tokens,
                attention_mask=attention_masks(hf, branch, positions, branch, positions),
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
            )
        past.batch_repeat_interleave(len(batch.tokens))
    tail = slice(batch.prefix, None)
    with running(batch.roles[:, tail]):
        return hf.base_model(
            input_ids=batch.tokens[:, tail],
            attention_mask=attention_masks(
                hf, batch.branch[:, tail], batch.positions[:, tail], batch.branch, batch.positions
            ),
            position_ids=batch.positions[:, tail],
            past_key_values=past,
            use_cache=past is not None,
        ).last_hidden_state


def logits_of(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (fp32) of final hidden states [..., d_model] -> [..., vocabulary]."""
    hf = model.original_model
    logits = hf.get_output_embeddings()(hidden.contiguous()).float()
    cap = getattr(hf.config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _log_softmax_at(model: Any, hidden: torch.Tensor, row: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    # One fused pass; logsumexp, a pass for each of its steps, took longer than the rest of the model's head.
    return torch.log_softmax(logits_of(model, hidden), dim=-1)[row, target]


def without_unread(batch: Batch) -> tuple[Batch, torch.Tensor]:
    """What `answer_logprobs` runs: the batch without the answers' last tokens, which predict nothing.

    Also, for every place in the old batch, the place in the new one [batch, pos] (meaningless for dropped tokens).
    """
    keep = batch.mask & ~batch.response_mask
    row, token = batch.response_mask[:, batch.prefix :].nonzero(as_tuple=True)
    keep[row, _predictors(batch)[row, token] + batch.prefix] = True
    place = keep.cumsum(dim=1) - 1
    length = keep.sum(dim=1)
    width = int(length.max())
    order = torch.argsort(~keep, dim=1, stable=True)[:, :width]  # kept places first, in order
    padding = torch.arange(width, device=keep.device)[None] >= length[:, None]
    branch = batch.branch.gather(1, order).masked_fill(padding, PAD)
    run = Batch(
        tokens=batch.tokens.gather(1, order),
        mask=~padding,
        response_mask=branch > 0,
        branch=branch,
        positions=batch.positions.gather(1, order),
        roles=batch.roles.gather(1, order).masked_fill(padding, NO_ROLE),
        prefix=batch.prefix,
    )
    return run, place


def _predictors(batch: Batch) -> torch.Tensor:
    """For each token behind the prefix, the index (behind the prefix) of the token that predicts it."""
    branch = batch.branch[:, batch.prefix :]
    before = torch.arange(branch.shape[1], device=branch.device).expand_as(branch) - 1
    last_prompt = (branch == 0).sum(dim=1, keepdim=True) - 1
    starts = torch.ones_like(branch, dtype=torch.bool)
    starts[:, 1:] = branch[:, 1:] != branch[:, :-1]
    return torch.where(starts & (branch > 0), last_prompt, before)


def attention_masks(hf: Any, branch: Any, positions: Any, key_branch: Any, key_positions: Any) -> Any:
    """Additive attention masks: a token sees the prompt and its own branch, up to itself, within the window.

    Padding sees what comes before it, so that no row of attention is empty; no real token sees padding.
    """
    queries, keys = branch.shape[1], key_branch.shape[1]
    order = torch.arange(keys, device=branch.device)
    earlier = order[None, :] <= order[keys - queries :, None]
    seen = (key_branch[:, None, :] == 0) | (key_branch[:, None, :] == branch[:, :, None])
    visible = (earlier[None] & seen)[:, None]
    dtype = next(hf.parameters()).dtype

    def additive(allowed: torch.Tensor) -> torch.Tensor:
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )

    def windowed() -> torch.Tensor:
        near = positions[:, :, None] - key_positions[:, None, :] < hf.config.sliding_window
        return additive(visible & (near[:, None] | (branch < 0)[:, None, :, None]))

    kinds = set(getattr(hf.config, "layer_types", None) or ())
    if not kinds:
        return windowed() if getattr(hf.config, "sliding_window", None) else additive(visible)
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise ModelError("the model has layers of a kind that mechgate cannot score", got=sorted(unknown))
    both = {"full_attention": lambda: additive(visible), "sliding_attention": windowed}
    return {kind: both[kind]() for kind in kinds}
