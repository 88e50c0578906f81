"""The residual stream at every token of text that the model writes itself, or of given text: what SAEs are trained on.

States are captured while generating, so that nothing is run twice, and kept in parts, so that an interrupted run goes
on. The first token of a text, an attention sink, and whatever all prompts begin with (the chat template's system
message) are left out: they are the same over and over.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mechgate.data.pairs import Example, Message
from mechgate.errors import DataError, InputError
from mechgate.measure.activations import HOOKS
from mechgate.measure.generation import generate_batch
from mechgate.model import hooking
from mechgate.model.loading import fingerprint, model_info
from mechgate.model.prompts import collate, encode_response, prompt_ids, shared_prefix
from mechgate.model.scoring import final_hidden
from mechgate.model.sites import all_sites
from mechgate.progress import is_quiet
from mechgate.provenance import atomic_path, stable_hash, write_json
from mechgate.seeding import stream_seed

PLAN = "states.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenStates:
    """States of `n` tokens after some layers, on disk: part files in `folder` (safetensors, bfloat16).

    `layers` are the layers (the hook is the residual stream after each); `n` counts the tokens of all parts; `hash`
    stands for all that decided them.
    """

    folder: Path
    parts: tuple[Path, ...]
    layers: tuple[int, ...]
    n: int
    hash: str

    def load(self, layer: int) -> torch.Tensor:
        """All states after a layer, in the order they were written: bfloat16 [n, d_model]. Raises `InputError` for a
        layer that was not kept and `DataError` for a damaged part."""
        if layer not in self.layers:
            raise InputError("states after that layer were not kept", got=layer, allowed=list(self.layers))
        return torch.cat([_part(path)[f"layer-{layer}"] for path in self.parts])

    def tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """Each token's id, and the number of the text it stands in: int64 [n] each."""
        parts = [_part(path) for path in self.parts]
        ids = torch.cat([part["tokens"] for part in parts]).numpy()
        texts, start = [], 0
        for part in parts:
            texts.append(part["texts"].numpy() + start)
            start += int(part["texts"].max()) + 1
        return ids, np.concatenate(texts)


def generated_states(
    model: Any,
    prompts: Sequence[Sequence[Message]],
    folder: str | Path,
    *,
    layers: Sequence[int],
    n: int,
    seed: int,
    texts: Sequence[str] = (),
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    batch_size: int = 64,
    label: str | None = "tokens",
) -> TokenStates:
    """At least `n` tokens' states: `texts` first, then replies to `prompts`, sampled in rounds until there are enough.

    Kept in `folder` and gone on with there; a folder of other settings is an error. Replies are streams of `seed`, the
    round and the prompt's number. Gates attached around the call act. Raises `InputError` for settings that cannot be
    used, and for a folder that was made from others.
    """
    if n < 1 or not prompts or batch_size < 1:
        raise InputError("states need tokens, prompts and batches", got=f"n {n}, {len(prompts)} prompts")
    where, kept = Path(folder), tuple(site.layer for site in all_sites(model, list(layers)))
    rows = [prompt_ids(model, prompt) for prompt in prompts]
    made_from = [fingerprint(model), kept, n, seed, max_new_tokens, temperature, batch_size, rows, list(texts)]
    digest = stable_hash(made_from)
    _check_plan(where, digest, kept)
    jobs = _jobs(model, rows, list(texts), kept, max_new_tokens, temperature, batch_size, seed)
    found, total, started = [], 0, time.monotonic()
    while total < n:
        path, make = where / f"part-{len(found):05d}.safetensors", next(jobs)
        if not path.exists():
            with atomic_path(path) as temporary:
                save_file(make(), temporary)
        total += len(_part(path)["tokens"])
        found.append(path)
        if label and not is_quiet():
            gone = time.monotonic() - started
            print(f"{label}: {min(total, n)} of {n}, {gone:.0f} s gone", file=sys.stderr)
    return TokenStates(folder=where, parts=tuple(found), layers=kept, n=total, hash=digest)


def text_states(
    model: Any, texts: Sequence[str | Example], layer: int, *, batch_size: int = 16
) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """The tokens of plain texts (all but the first) and of examples' responses: ids [n], the number of the text each
    stands in [n], and their states after `layer`, bfloat16 [n, d_model]. Gates attached around the call act."""
    if not texts:
        raise InputError("there is nothing to measure", got="no texts")
    part = _text_part(model, texts, (all_sites(model, [layer])[0].layer,), batch_size)
    return part["tokens"].numpy(), part["texts"].numpy(), part[f"layer-{layer}"]


def _check_plan(folder: Path, digest: str, layers: tuple[int, ...]) -> None:
    path = folder / PLAN
    if not path.exists():
        write_json(path, {"made_from": digest, "layers": list(layers)})
    elif json.loads(path.read_text(encoding="utf-8")).get("made_from") != digest:
        raise InputError(
            "the folder holds states that were made otherwise", got=str(folder), do="name another folder, or delete it"
        )


def _jobs(
    model: Any,
    rows: list[tuple[int, ...]],
    texts: list[str],
    layers: tuple[int, ...],
    new: int,
    temperature: float,
    batch_size: int,
    seed: int,
) -> Iterator[Any]:
    """Functions that make one part each: the given texts, then batches of replies, without end."""
    skip = max(1, shared_prefix(rows))
    if texts:
        yield lambda: _text_part(model, texts, layers, batch_size)
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))  # similar lengths together: less padding
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    step = 0
    while True:
        for chosen in batches:
            seeds = [stream_seed(seed, "token states", step, i) for i in chosen]

            def make(chosen: list[int] = chosen, seeds: list[int] = seeds) -> dict[str, torch.Tensor]:
                return _reply_part(model, [rows[i] for i in chosen], layers, new, temperature, seeds, skip)

            yield make
        step += 1


def _reply_part(
    model: Any,
    rows: list[tuple[int, ...]],
    layers: tuple[int, ...],
    new: int,
    temperature: float,
    seeds: list[int],
    skip: int,
) -> dict[str, torch.Tensor]:
    seen, hooks = _capture(layers)
    with hooking.attached(model, hooks):
        ids, start = generate_batch(model, rows, new, temperature, seeds)
    ids = ids[:, :-1].cpu()  # nothing was run on the last new token
    ends = _stop_ids(model)
    real = torch.zeros(ids.shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        said = ids[i, start:].tolist()
        length = next((k + 1 for k, token in enumerate(said) if token in ends), len(said))
        real[i, start - len(row) + skip : start + length] = True
    return _gathered(ids, real, seen)


def _capture(layers: tuple[int, ...]) -> tuple[dict[int, list[torch.Tensor]], dict[str, hooking.Hook]]:
    """Lists that hooks fill with each layer's states, forward by forward [batch, pos, d_model], and the hooks."""
    seen: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}

    def keep(layer: int) -> hooking.Hook:
        return lambda value: seen[layer].append(value.bfloat16().cpu())

    return seen, {HOOKS["resid_post"].format(layer): keep(layer) for layer in layers}


def _stop_ids(model: Any) -> set[int]:
    stops = model.original_model.generation_config.eos_token_id
    return {model_info(model).tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])} - {None}


def _text_part(
    model: Any, texts: Sequence[str | Example], layers: tuple[int, ...], batch_size: int
) -> dict[str, torch.Tensor]:
    rows = [encode_response(model, text) for text in texts]
    device = next(model.original_model.parameters()).device
    parts = []
    for first in range(0, len(rows), batch_size):
        batch = replace(collate(rows[first : first + batch_size], device), prefix=0)  # one pass: all tokens at once
        seen, hooks = _capture(layers)
        with torch.inference_mode(), hooking.attached(model, hooks):
            final_hidden(model, batch)
        real = batch.response_mask.cpu()  # everything but the first token
        parts.append(_gathered(batch.tokens.cpu(), real, seen, first))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _gathered(
    ids: torch.Tensor, real: torch.Tensor, states: dict[int, list[torch.Tensor]], first: int = 0
) -> dict[str, torch.Tensor]:
    """The marked tokens [batch, pos], row by row: ids, the row's number, and each layer's states."""
    row = real.nonzero()[:, 0] + first
    found = {"tokens": ids[real].to(torch.int64), "texts": row}
    return found | {f"layer-{layer}": torch.cat(parts, dim=1)[real] for layer, parts in states.items()}


def _part(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"a part of the token states is damaged: {path}", got=str(error), do="delete it") from error
