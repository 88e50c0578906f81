"""The second implementation: the same gates, patches and margins through nnsight on the plain Hugging Face model.

Nothing here uses TransformerLens, hook points or mechgate's own way of running a model, so that agreement (1e-4 in fp32, in
tests) says something about both. The same calls run in this process (`remote=False`), in this process after being
serialised as for a server (`remote="local"`), and on NDIF (`remote=True`), for models that do not fit one machine.

Limits of `remote=True`, which was wired but not run against NDIF itself:
- the model is named by its hub id (`trace_model("org/name")`): NDIF runs hub models that it hosts, so neither a loaded model,
  nor a local folder, nor a LoRA host can be sent; an NDIF_API_KEY must be set;
- gates travel with every request (4 * d_z * d_model bytes a layer in fp32, low-rank ones multiplied out), and patching makes a
  request a layer: with element gates of a large model give them on few layers;
- logits [rows, pos, vocabulary] come back whole; NDIF's models run in bf16, where 1e-4 cannot hold;
- the server's nnsight must be of the same version; only torch functions are in the traced code, so it needs no mechgate.

Importing nnsight replaces `torch.Tensor.backward`, after which `with context: loss.backward()` on one line does nothing; so it
is imported by `trace_model` alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Pair
from mechgate.errors import InputError, ModelError
from mechgate.model.loading import ModelInfo
from mechgate.model.prompts import Row, encode
from mechgate.model.sites import Shape

_NORMED = "input_layernorm"
# By model type: where the blocks are, the norm whose output attention and gates read, what W_O is called.
_PLACES: dict[str, tuple[str, str, str]] = {
    **dict.fromkeys(
        ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3"),
        ("model.layers", _NORMED, "self_attn.o_proj"),
    ),
    "gpt2": ("transformer.h", "ln_1", "attn.c_proj"),
    "gpt_neox": ("gpt_neox.layers", _NORMED, "attention.dense"),
}
ARCHITECTURES = tuple(_PLACES)


class Traced:
    """A Hugging Face model under nnsight; make one with `trace_model`.

    `model` is nnsight's, `shape` the dimensions that gates depend on. `named` says that it was given by its hub id, which
    `remote=True` takes.
    """

    def __init__(self, model: Any, config: Any, tokenizer: Any, name: str | None):
        self.model, self.config, self.named = model, config, name is not None
        heads = config.num_attention_heads
        self.shape = Shape(
            n_layers=config.num_hidden_layers,
            n_heads=heads,
            d_head=getattr(config, "head_dim", None) or config.hidden_size // heads,
            d_model=config.hidden_size,
        )
        # What tokenising asks of a model.
        self._mechgate_info = ModelInfo(name=name or "", tokenizer=tokenizer)

    @property
    def original_model(self) -> "Traced":
        return self

    def sites(self) -> list[tuple[Any, Any]]:
        """By layer, the nnsight modules of the norm before attention and of W_O."""
        blocks, norm, out = _PLACES[self.config.model_type]
        return [(_at(block, norm), _at(block, out)) for block in _at(self.model, blocks)]


def trace_model(source: Any, *, tokenizer: Any = None) -> Traced:
    """A model under nnsight: a loaded HF causal model with its `tokenizer`, or a hub id (for `remote=True`).

    The model must be a plain one: `load_model` changes the model that it is given, so load it again for this. Raises
    `ModelError` without nnsight and for architectures other than `ARCHITECTURES`, `InputError` for a loaded model without
    tokenizer (nnsight asks for one).
    """
    try:
        from nnsight.modeling.transformers import TransformersModel
    except ImportError as error:
        raise ModelError("nnsight is not installed", do="pip install 'mechgate[nnsight]'") from error
    options: dict[str, Any] = dict(task="text-generation")
    if isinstance(source, str):
        model = TransformersModel(source, **options)
        config, name = model.config, source
        tokenizer = tokenizer if tokenizer is not None else model.tokenizer
    else:
        if hasattr(source, "hook_dict"):
            raise InputError("nnsight takes the plain HF model", got=type(source).__name__, do="load it again with HF")
        if tokenizer is None:
            raise InputError("nnsight needs the tokenizer of a loaded model", do="pass tokenizer=")
        source.eval()
        model, config, name = TransformersModel(source, tokenizer=tokenizer, **options), source.config, None
    if config.model_type not in _PLACES:
        raise ModelError(
            "the second implementation does not know where this architecture's attention is",
            got=config.model_type,
            allowed=list(ARCHITECTURES),
        )
    return Traced(model, config, tokenizer, name)


def trace_logits(
    traced: Traced, tokens: Any, *, gates: Any = None, strength: float = 1.0, remote: bool | str = False
) -> torch.Tensor:
    """Logits (fp32) [rows, pos, vocabulary] of token ids [rows, pos], with a `GateSet` at `strength`.

    Rows are run as they are, without a mask: what stands behind a row's end changes nothing before it. Raises
    `ModelError` for gates of another shape, `InputError` for a strength that is not finite and for `remote=True` with a model
    that was not named by its hub id.
    """
    return _forward(traced, tokens, _plain(traced, gates, strength), remote)[0]


def trace_scores(
    traced: Traced, rows: Sequence[Row], *, gates: Any = None, strength: float = 1.0, remote: bool | str = False
) -> tuple[np.ndarray, np.ndarray]:
    """Summed log-probability (nats) and number of tokens of every answer: both [n_rows, n_answers], in one request.

    The same as `measure.margins.answer_scores`, in which answers are branches of one row; here each is a row of its own.
    Raises as `trace_logits`, and `InputError` for no rows and for rows with different numbers of answers.
    """
    if len({len(row.answers) for row in rows}) != 1:
        raise InputError("rows need equally many answers, and there must be some", got=len(rows))
    whole = [(row.prompt, answer) for row in rows for answer in row.answers]
    width = max(len(prompt) + len(answer) for prompt, answer in whole)
    tokens = torch.zeros(len(whole), width, dtype=torch.long)
    for i, (prompt, answer) in enumerate(whole):
        tokens[i, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
    logprobs = trace_logits(traced, tokens, gates=gates, strength=strength, remote=remote).log_softmax(dim=-1)
    sums = []
    for i, (prompt, answer) in enumerate(whole):
        before = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
        sums.append(float(logprobs[i, before, torch.tensor(answer)].double().sum()))
    shape = (len(rows), len(rows[0].answers))
    return np.array(sums).reshape(shape), np.array([len(answer) for _, answer in whole]).reshape(shape)


def trace_margins(
    traced: Traced, pairs: Sequence[Pair], *, gates: Any = None, strength: float = 1.0, remote: bool | str = False
) -> np.ndarray:
    """Mean log-probability a token of `matching` minus that of `not_matching`: [n_pairs], nats a token, as
    `measure.margins.margins`. Raises as `trace_scores` and as tokenising does."""
    rows = [encode(traced, pair.messages, [pair.matching, pair.not_matching]) for pair in pairs]
    sums, counts = trace_scores(traced, rows, gates=gates, strength=strength, remote=remote)
    per_token = sums / counts
    return per_token[:, 0] - per_token[:, 1]


def trace_patches(
    traced: Traced,
    clean: Sequence[int],
    corrupted: Sequence[int],
    metric: Callable[[torch.Tensor], Any],
    *,
    gates: Any = None,
    strength: float = 1.0,
    remote: bool | str = False,
) -> np.ndarray:
    """Each head's clean z put into the corrupted run at all positions: the metric of each run, fp64 [n_layers, n_heads].

    As `measure.patching.patch_heads`, with gates (if any) in the corrupted run only. `metric` gets one run's last logits [1, 1,
    vocabulary] (fp32). Raises as `trace_logits`, and `InputError` for prompts of different lengths.
    """
    if len(clean) != len(corrupted):
        raise InputError("clean and corrupted need equally many tokens", got=f"{len(clean)} and {len(corrupted)}")
    n, plain = traced.shape.n_heads, _plain(traced, gates, strength)
    z = _forward(traced, torch.tensor([list(clean)]), {}, remote)[1]  # [layers, 1, pos, d_z]
    tokens = torch.tensor([list(corrupted)] * n)
    own = torch.eye(n, dtype=torch.bool).repeat_interleave(traced.shape.d_head, dim=1)[:, None]  # [heads, 1, d_z]
    found = np.empty((traced.shape.n_layers, n))
    for layer in range(traced.shape.n_layers):
        logits = _forward(traced, tokens, plain, remote, _Swap(layer=layer, where=own, values=z[layer]))[0]
        found[layer] = [float(metric(logits[head : head + 1, -1:])) for head in range(n)]
    return found


@dataclass(frozen=True, kw_only=True)
class _Swap:
    """z of `layer` is replaced by `values` [1, pos, d_z] at `where` [rows, 1, d_z]."""

    layer: int
    where: torch.Tensor
    values: torch.Tensor


def _forward(
    traced: Traced,
    tokens: Any,
    plain: dict[int, tuple[torch.Tensor, torch.Tensor, float]],
    remote: bool | str,
    swap: _Swap | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and z as it goes into W_O [layers, rows, pos, d_z]. Plain tensors and torch functions only inside the trace."""
    import nnsight

    if remote not in (False, "local") and not traced.named:  # True, or a server's address
        raise InputError(
            "NDIF runs hub models, not one that is loaded here",
            do="trace_model('org/name'), or remote='local' to try out that the request can be sent",
        )
    sites, ids = traced.sites(), torch.as_tensor(tokens)
    model, last = traced.model, len(sites)
    at, where, values = (swap.layer, swap.where, swap.values) if swap else (-1, torch.empty(0), torch.empty(0))
    with torch.no_grad(), model.trace(ids, remote=remote):
        kept = []
        for layer in range(last):
            norm, out = sites[layer]
            if layer in plain:
                x = norm.output
                w, b, s = plain[layer]
                a = torch.nn.functional.linear(x, w.to(x), b.to(x)).float()
                z = out.input
                out.input = z * (1 + s * torch.tanh(a / 2)).to(z.dtype)
            z = out.input
            if layer == at:
                z = torch.where(where.to(z.device), values.to(z), z)
                out.input = z
            kept.append(z)
        zs = nnsight.save(torch.stack(kept))
        logits = model.output.logits.save()
    return logits.float(), zs


def _plain(traced: Traced, gates: Any, strength: float) -> dict[int, tuple[torch.Tensor, torch.Tensor, float]]:
    """By layer: W [d_z, d_model] and b [d_z] with a row a z element, whatever the gates' granularity, and the strength."""
    if gates is None:
        return {}
    if not np.isfinite(strength):
        raise InputError("strength must be a finite number", got=repr(strength))
    if differences := gates.shape.differences(traced.shape):
        raise ModelError("these gates were made for a model of another shape", got="; ".join(differences))
    found = {}
    for layer in gates.layers:
        gate = gates.gate(layer)
        bias = gate.bias.detach()
        weight = torch.zeros(len(bias), traced.shape.d_model) if gate.weight is None else gate.weight.detach()
        if gate.up is not None:
            weight = (gate.up @ gate.down).detach()
        each = traced.shape.d_z // len(bias)
        found[layer] = (weight.repeat_interleave(each, 0), bias.repeat_interleave(each, 0), strength * gates.scale)
    return found


def _at(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
