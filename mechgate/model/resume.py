"""One prompt, run once and then again from any layer on, in as many rows as wanted: what patching stands on.

Three savings, all exact: the tokens that two prompts share are run once, as a batch of one, and their keys and values
are reused; the layers before the patched one are not run again (their blocks hand the cached residual stream on); and
only the last hidden states are computed, logits being left to who reads them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from mechgate.errors import InputError
from mechgate.model import hooking
from mechgate.model.prompts import Row, check_fits, collate
from mechgate.model.roles import running
from mechgate.model.scoring import attention_masks
from mechgate.model.sites import shape_of

Attached = Callable[[], AbstractContextManager[Any]]
"""Attaches something to the model for a block: `partial(gates.attached, model, -1.0)`."""


class Resumable:
    """A prompt of ids [pos] in `model`, every run of which is inside `during` (gates attached, say). Its first `prefix`
    tokens will never be changed.

    Of the tokens behind the prefix (`tail`): `resid_pre` [n_layers, tail, d_model], `attn_in`, what attention and gates
    read, of the same shape, `raw_z` [n_layers, tail, n_heads, d_head] as attention gives it and `z` as `during` leaves it,
    and the last `hidden` states [tail, d_model]. Raises `InputError` for a prefix that leaves no token, `DataError` for a prompt
    that is longer than the model's context.
    """

    def __init__(self, model: Any, ids: Sequence[int], *, prefix: int = 0, during: Attached = nullcontext):
        if not 0 <= prefix < len(ids):
            raise InputError("the prefix must leave a token", got=prefix, allowed=f"0 to {len(ids) - 1}")
        self.model, self.ids, self.prefix, self.during = model, tuple(int(i) for i in ids), prefix, during
        row = Row(prompt=self.ids, answers=())
        check_fits(model, row, f"{len(ids)} tokens")
        self._row = row
        self._device = next(model.original_model.parameters()).device
        self._past = self._run_prefix()
        layers = range(shape_of(model).n_layers)
        seen: dict[str, list[torch.Tensor]] = {"resid_pre": [], "attn_in": [], "raw_z": [], "z": []}

        def keep(name: str) -> hooking.Hook:
            return lambda value: seen[name].append(value[0].clone())

        before = {f"blocks.{k}.hook_in": keep("resid_pre") for k in layers}
        before |= {f"blocks.{k}.attn.hook_in": keep("attn_in") for k in layers}
        before |= {f"blocks.{k}.attn.hook_z": keep("raw_z") for k in layers}
        after = {f"blocks.{k}.attn.hook_z": keep("z") for k in layers}
        with torch.inference_mode(), hooking.attached(model, before), during(), hooking.attached(model, after):
            self.hidden = self.forward(1)[0]
        self.resid_pre, self.attn_in, self.raw_z, self.z = (torch.stack(values) for values in seen.values())

    def run(self, layer: int, rows: int, hooks: Mapping[str, hooking.Hook]) -> torch.Tensor:
        """Final hidden states [rows, tail, d_model] of `rows` copies of the prompt, with `hooks` attached from `layer` on; to
        be called inside `attached()`. Raises `HookError` for hooks before `layer`, which never fire.
        """

        def start(value: torch.Tensor) -> torch.Tensor:
            return self.resid_pre[layer].expand_as(value)

        replaced = hooking.attached(self.model, {f"blocks.{layer}.hook_in": start, **hooks})
        with torch.inference_mode(), self._skipping(layer), replaced:
            return self.forward(rows)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside `during`, once for any number of runs."""
        with self.during():
            if self.during is not nullcontext:  # hooks that make sure they ran would miss the layers that are skipped
                with torch.inference_mode():
                    self.forward(1)
            yield

    @contextmanager
    def _skipping(self, layer: int) -> Iterator[None]:
        """Blocks before `layer` hand their input on."""
        blocks = [self.model.blocks[k] for k in range(layer)]
        own = [dict(vars(block)) for block in blocks]
        try:
            for block in blocks:  # past the bridge's __setattr__, which hands attributes on to the wrapped block
                vars(block)["forward"] = lambda hidden_states, *args, **options: hidden_states
            yield
        finally:
            for block, before in zip(blocks, own, strict=True):
                vars(block).pop("forward")
                if "forward" in before:
                    vars(block)["forward"] = before["forward"]

    def _run_prefix(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if not self.prefix:
            return []
        from transformers import DynamicCache

        past = DynamicCache()
        batch = collate([Row(prompt=self.ids[: self.prefix], answers=())], self._device)
        places = (batch.branch, batch.positions)
        with torch.inference_mode(), running(batch.roles):
            self.model.original_model.base_model(
                input_ids=batch.tokens,
                attention_mask=attention_masks(self.model.original_model, *places, *places),
                position_ids=batch.positions,
                past_key_values=past,
                use_cache=True,
            )
        layers: list[Any] = past.layers
        return [(layer.keys, layer.values) for layer in layers]

    def forward(self, rows: int) -> torch.Tensor:
        """Final hidden states [rows, tail, d_model] of copies of the prompt, with what is attached now; keys and values of
        the prefix are constants."""
        from transformers import DynamicCache

        past = None
        if self._past:
            past = DynamicCache()
            for k, (keys, values) in enumerate(self._past):
                past.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), k)
        batch = replace(collate([self._row] * rows, self._device), prefix=self.prefix)
        tail = slice(self.prefix, None)
        own = (batch.branch[:, tail], batch.positions[:, tail])
        with running(batch.roles[:, tail]):
            return self.model.original_model.base_model(
                input_ids=batch.tokens[:, tail],
                attention_mask=attention_masks(self.model.original_model, *own, batch.branch, batch.positions),
                position_ids=batch.positions[:, tail],
                past_key_values=past,
                use_cache=past is not None,
            ).last_hidden_state
