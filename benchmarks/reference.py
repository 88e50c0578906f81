"""The plain reference: gates on the bare Hugging Face model, full-vocabulary logits, fp32 - the paper's way."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from mechgate.gates.gateset import GateSet
from mechgate.model.bundled import default_model_folder
from mechgate.model.prompts import Row


def plain_model() -> Any:
    """The default model as Hugging Face loads it, eager attention, fp32, frozen."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(default_model_folder(), dtype=torch.float32, attn_implementation="eager")
    return hf.eval().requires_grad_(False)


@contextlib.contextmanager
def plain_gates(hf: Any, gates: GateSet) -> Iterator[None]:
    """2 * sigmoid(W x + b) on the input of every o_proj, by ordinary torch hooks."""
    inputs: dict[int, torch.Tensor] = {}
    handles = []
    for n, layer in enumerate(hf.model.layers):
        gate = gates.gate(n)

        def keep(module: Any, args: Any, output: torch.Tensor, n: int = n) -> None:
            inputs[n] = output

        def multiply(module: Any, args: Any, n: int = n, gate: Any = gate) -> Any:
            return (args[0] * 2 * torch.sigmoid(F.linear(inputs[n], gate.weight, gate.bias)),)

        handles += [
            layer.input_layernorm.register_forward_hook(keep),
            layer.self_attn.o_proj.register_forward_pre_hook(multiply),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def padded(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and labels (-100 outside the answer) [batch, pos], padded on the right."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        full = torch.tensor([*row.prompt, *row.answers[0]])
        ids[i, : len(full)], mask[i, : len(full)] = full, 1
        labels[i, len(row.prompt) : len(full)] = full[len(row.prompt) :]
    return ids, mask, labels


def plain_loss(hf: Any, rows: list[Row]) -> torch.Tensor:
    """Mean cross-entropy over response tokens, from logits of every position."""
    ids, mask, labels = padded(rows)
    logits = hf(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]).float(), labels[:, 1:].reshape(-1))


def plain_answer_score(hf: Any, rows: list[Row]) -> torch.Tensor:
    """Mean log-probability a token of each row's (single) answer, from logits of every position: [batch]."""
    ids, mask, labels = padded(rows)
    logits = hf(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    target = labels[:, 1:]
    scores = logits.log_softmax(-1).gather(-1, target.clamp(min=0)[..., None])[..., 0]
    return (scores * (target >= 0)).sum(1) / (target >= 0).sum(1)
