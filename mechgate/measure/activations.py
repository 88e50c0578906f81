"""What a model holds of a prompt or of a response: one vector (or one a head) for each of them and each layer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Example, Message, Pair
from mechgate.errors import InputError, check_choice
from mechgate.model import hooking
from mechgate.model.prompts import Batch, Row, collate, encode, length_buckets
from mechgate.model.roles import ROLES
from mechgate.model.scoring import final_hidden
from mechgate.model.sites import all_sites, check_gateable, shape_of
from mechgate.progress import track

BATCH_SIZE = 16
HOOKS = {
    "resid_pre": "blocks.{}.hook_resid_pre",
    "resid_post": "blocks.{}.hook_resid_post",
    "z": "blocks.{}.attn.hook_z",
    "hook_in": "blocks.{}.attn.hook_in",
}
STREAM = "stream"
POSITIONS = ("last", "mean", "claim", "response")


def activations(
    model: Any,
    prompts: Sequence[Pair | Example | Sequence[Message]],
    hook: str = "resid_post",
    *,
    layers: list[int] | None = None,
    position: str = "last",
    transform: tuple[Callable[[torch.Tensor], torch.Tensor], int] | None = None,
    batch_size: int = BATCH_SIZE,
    label: str | None = "activations",
) -> np.ndarray:
    """Hidden activations of `prompts`, in their order: fp32 [n_prompts, n_layers, d_model], in the model's own unit.

    A prompt is a conversation up to where the assistant starts to answer; of pairs and examples only that is read, but
    at position "response".
    `hook`: the residual stream before ("resid_pre") or after a block ("resid_post"), what its gate reads ("hook_in"),
    or what its heads hold before W_O ("z", [n_prompts, n_layers, n_heads, d_head]). `layers` (default: all) come out
    in ascending order. "stream" is the whole residual stream, n_layers + 1 places: what the first block reads (the
    embeddings), then what each block leaves; place L is "resid_post" of block L - 1.

    `position` "last" is the prompt's last token, the end of the generation prompt; "mean" is the mean over all its
    tokens, the first of which is far longer than the rest in many models. "claim" is the mean over the tokens of a
    pair's claim; "response" that over an example's response, without its end-of-turn token.

    `transform` is a function of single tokens' vectors (fp32 [n_tokens, d_model] -> [n_tokens, width], as an SAE's
    encoder is one) with its width; then means are of what it gives: [n_prompts, n_layers, width].

    Does not depend on `batch_size` or on the other prompts (1e-5 of its size in fp32). Gates are those attached around
    the call; z is then what they leave. Memory: the result and one batch. Raises `InputError` for no prompts, an
    unknown hook or position, prompts without what the position asks for and layers that are not there (or, for
    "stream", given), `ModelError` for a model that cannot be gated.
    """
    if hook == "z" and transform is None:
        shape = shape_of(model)
        size: tuple[int, ...] = (shape.n_heads, shape.d_head)
    else:
        size = (shape_of(model).d_model if transform is None else transform[1],)
    change = None if transform is None else transform[0]
    asked = [(hook, position)]
    return _measured(model, prompts, asked, layers, size, change, batch_size, label)[hook, position]


def activations_at(
    model: Any,
    prompts: Sequence[Pair | Example | Sequence[Message]],
    where: Sequence[tuple[str, str]],
    *,
    batch_size: int = BATCH_SIZE,
    label: str | None = "activations",
) -> dict[tuple[str, str], np.ndarray]:
    """`activations` of all layers at several (hook, position) at once, from one pass: fp32 [n_prompts, places, d_model] each.

    "last" is the prompt's last token also where the response is read beside it. All hooks but "z". Raises as
    `activations` does, and `InputError` for nothing to read.
    """
    if not where or any(hook == "z" for hook, _ in where):
        raise InputError("these cannot be read in one pass", got=list(where), allowed=(*HOOKS, STREAM)[1:])
    return _measured(model, prompts, where, None, (shape_of(model).d_model,), None, batch_size, label)


def _measured(
    model: Any,
    prompts: Sequence[Pair | Example | Sequence[Message]],
    where: Sequence[tuple[str, str]],
    layers: list[int] | None,
    size: tuple[int, ...],
    change: Callable[[torch.Tensor], torch.Tensor] | None,
    batch_size: int,
    label: str | None,
) -> dict[tuple[str, str], np.ndarray]:
    hooks, positions = (list(dict.fromkeys(names)) for names in zip(*where, strict=True))
    for hook, position in where:
        check_choice("hook", hook, (*HOOKS, STREAM))
        check_choice("position", position, POSITIONS)
    check_gateable(model, allow_post_norm=True)
    names: list[str] = []
    spans: dict[str, list[int]] = {}
    for hook in hooks:
        found = [HOOKS.get(hook, HOOKS["resid_post"]).format(site.layer) for site in all_sites(model, layers)]
        if hook == STREAM:
            if layers is not None:
                raise InputError("the whole residual stream has no layers to choose", got=layers, do="leave layers out")
            found = [HOOKS["resid_pre"].format(0), *found]
        names += [name for name in found if name not in names]
        spans[hook] = [names.index(name) for name in found]
    # The longest reading decides how a prompt is encoded: with its response, with its claim, or alone.
    most = next((p for p in ("response", "claim") if p in positions), positions[0])
    if most == "response" and "claim" in positions:
        raise InputError("a response and a claim cannot be read in one pass", got=positions)
    rows = [_row(model, p, most) for p in prompts]
    if not rows:
        raise InputError("there is nothing to measure", got="no prompts")
    out = {(h, p): np.empty((len(rows), len(spans[h]), *size), dtype=np.float32) for h, p in where}
    device = next(model.original_model.parameters()).device
    for indices in track(length_buckets(list(map(len, rows)), batch_size), label):
        batch = collate([rows[i] for i in indices], device)
        end = batch.positions == batch.mask.sum(dim=1, keepdim=True) - 1
        prompt = batch.mask & ~batch.response_mask
        marks = {
            "last": prompt & (batch.positions == prompt.sum(dim=1, keepdim=True) - 1),
            "mean": prompt,
            "claim": batch.roles == ROLES.index("claim"),
            "response": batch.response_mask & ~end,
        }
        with torch.inference_mode():
            means = _means(model, batch, names, torch.stack([marks[p] for p in positions]), size, change)
        for hook, position in where:
            chosen = means[positions.index(position), spans[hook]]
            out[hook, position][indices] = chosen.transpose(0, 1).cpu().numpy()
    return out


def _row(model: Any, prompt: Pair | Example | Sequence[Message], position: str) -> Row:
    if position == "response":
        if not isinstance(prompt, Example):
            raise InputError("only examples have a response", got=type(prompt).__name__, do="pass pair.as_example(...)")
        return encode(model, prompt.messages, [prompt.response])
    if position == "claim":
        row = encode(model, prompt.messages, [], claim=prompt.claim) if isinstance(prompt, Pair) else None
        if row is None or row.claim is None:
            where = prompt.id if isinstance(prompt, Pair) else type(prompt).__name__
            raise InputError("a prompt does not say where its claim is", got=where, do="pass pairs with a claim")
        return row
    return encode(model, prompt.messages if isinstance(prompt, Pair | Example) else prompt, [])


def _means(
    model: Any,
    batch: Batch,
    names: list[str],
    read: torch.Tensor,
    size: tuple[int, ...],
    transform: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    """Mean of each hook point's activation over the tokens marked in `read` [k, batch, pos]: fp32 [k, hooks, batch, *size].

    Only marked tokens are touched, so that an overflow elsewhere stays there. A shared prefix passes the hooks first,
    as one row for all.
    """
    sums = torch.zeros(len(read), len(names), read.shape[1], *size, device=read.device)
    passed = [0] * len(names)

    def add(value: torch.Tensor, k: int) -> None:
        start, passed[k] = passed[k], passed[k] + value.shape[1]
        value = value.expand(read.shape[1], *value.shape[1:])
        for marked, into in zip(read, sums, strict=True):
            row, token = marked[:, start : passed[k]].nonzero(as_tuple=True)
            vectors = value[row, token].float()
            into[k].index_add_(0, row, vectors if transform is None else transform(vectors).float())

    hooks: dict[str, hooking.Hook] = {name: lambda value, k=k: add(value, k) for k, name in enumerate(names)}
    with hooking.attached(model, hooks):
        final_hidden(model, batch)
    return sums / read.sum(dim=2)[:, None].view(len(read), 1, -1, *[1] * len(size))
