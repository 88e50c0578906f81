"""Free generation: replies without their prompts, greedy or sampled, with whatever gates are attached."""

from collections.abc import Sequence
from typing import Any

import torch

from mechgate.data.pairs import Message, Pair
from mechgate.errors import InputError
from mechgate.model.loading import model_info
from mechgate.model.prompts import Row, check_fits, length_buckets, prompt_ids
from mechgate.progress import track
from mechgate.seeding import stream_seed


def generate(
    model: Any,
    prompts: Sequence[Pair | Sequence[Message]],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int | None = None,
    batch_size: int = 16,
    label: str | None = "generating",
) -> list[str]:
    """The model's reply to each conversation, in order, without the prompt and special tokens.

    `temperature` 0 is greedy; above 0 replies are sampled, `seed` is required, and prompt i has its own random
    stream, so that neither batching nor the other prompts change what is drawn. Hugging Face's `generate` runs
    inside, with its KV cache; gates attached around the call act on every token.

    Raises `InputError` for unusable settings, `DataError` if prompt and reply do not fit the context.
    """
    if max_new_tokens < 1 or not 0 <= temperature < float("inf"):
        raise InputError(
            "unusable generation settings",
            got=f"max_new_tokens={max_new_tokens}, temperature={temperature}",
            allowed="max_new_tokens >= 1, temperature >= 0 and finite",
        )
    if temperature > 0 and seed is None:
        raise InputError(
            "sampling needs a seed", got="seed=None", do="pass seed=0, or temperature=0 for greedy replies"
        )
    rows = [prompt_ids(model, p.messages if isinstance(p, Pair) else p) for p in prompts]
    for ids in rows:
        check_fits(model, Row(prompt=ids, answers=((0,) * max_new_tokens,)), "a prompt with its reply")
    replies = [""] * len(rows)
    for indices in track(length_buckets(list(map(len, rows)), batch_size), label):
        seeds = [stream_seed(seed or 0, "sampling", i) for i in indices]
        ids, start = generate_batch(model, [rows[i] for i in indices], max_new_tokens, temperature, seeds)
        for i, row in zip(indices, ids, strict=True):
            replies[i] = model_info(model).tokenizer.decode(row[start:], skip_special_tokens=True).strip()
    return replies


class _Sampler:
    """Exact sampling by adding Gumbel noise (-log of an exponential) and taking the maximum, one generator a row."""

    def __init__(self, temperature: float, seeds: list[int], device: torch.device):
        self.temperature = temperature
        self.streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
        for row, stream in zip(noise, self.streams, strict=True):
            row.exponential_(generator=stream)
        return scores.float() / self.temperature - noise.log()


def generate_batch(
    model: Any, rows: list[tuple[int, ...]], new: int, temperature: float, seeds: list[int]
) -> tuple[torch.Tensor, int]:
    """One batch of prompts' ids, padded on the left, with up to `new` tokens each: ids [batch, pos], and where the new ones start.

    After an end of turn a row is padded. `seeds` are one a row, as in `generate`.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    hf, tokenizer = model.original_model, model_info(model).tokenizer
    device = next(hf.parameters()).device
    width = max(map(len, rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for i, ids in enumerate(rows):  # padded on the left, so that every row goes on at the same place
        tokens[i, width - len(ids) :] = torch.tensor(ids)
        mask[i, width - len(ids) :] = 1
    stops = hf.generation_config.eos_token_id
    stops = {tokenizer.eos_token_id} | set(stops if isinstance(stops, list) else [stops])
    config = GenerationConfig(
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=sorted(s for s in stops if s is not None) or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
    )
    sampler = LogitsProcessorList([_Sampler(temperature, seeds, device)] if temperature > 0 else [])
    own, hf.generation_config = hf.generation_config, GenerationConfig()
    try:  # what our settings leave open, generate would take from the model's own (Qwen2.5 has a repetition penalty)
        with torch.inference_mode():
            out = hf.generate(
                tokens.to(device), attention_mask=mask.to(device), generation_config=config, logits_processor=sampler
            )
    finally:
        hf.generation_config = own
    return out, width
