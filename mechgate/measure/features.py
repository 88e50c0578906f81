"""Sparse features of the residual stream: an SAE on a plain bridge, by our own hook, its error term always kept.

sae-lens gives the SAEs (local folders, hub releases); its own bridge class is not used: gates' hooks would not fire there.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Example, Message, Pair
from mechgate.errors import InputError, ModelError, StorageError
from mechgate.measure.activations import HOOKS, activations
from mechgate.measure.capability import neutral_text
from mechgate.measure.token_states import text_states
from mechgate.model import hooking
from mechgate.model.loading import model_info
from mechgate.model.sites import all_sites, shape_of
from mechgate.provenance import stable_hash

_LAYER = re.compile(r"^blocks\.(\d+)\.(hook_resid_post|hook_out)$")
_UNSCALED = ("none", "expected_average_only_in")
_TOKENS = 4096  # encoded at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Sae:
    """An SAE (of sae-lens, in evaluation) of the residual stream after `layer`; `name` says where it is from."""

    sae: Any
    layer: int
    name: str

    @property
    def n_latents(self) -> int:
        """How many latents it has."""
        return int(self.sae.cfg.d_sae)

    @property
    def decoder(self) -> np.ndarray:
        """Each latent's direction in the residual stream: fp32 [n_latents, d_model], of the length it is added with at
        activation 1."""
        return (self._decode(torch.eye(self.n_latents)) - self._decode(torch.zeros(1, self.n_latents))).numpy()

    @property
    def hash(self) -> str:
        """A sha256 over layer and weights."""
        weights = {name: value.double().cpu().numpy().tobytes().hex() for name, value in self.sae.state_dict().items()}
        return stable_hash([self.layer, weights])

    def encode(self, states: torch.Tensor) -> torch.Tensor:
        """Activations of all latents: [n, d_model] -> [n, n_latents]."""
        with torch.inference_mode():
            found = self.sae.encode(states.float())
        return found.to_dense() if found.is_sparse else found

    def reconstruct(self, states: torch.Tensor) -> torch.Tensor:
        """What the latents give back of states: [n, d_model]."""
        return self._decode(self.encode(states))

    def part_of(self, states: torch.Tensor, latents: Sequence[int]) -> torch.Tensor:
        """What some latents add to the reconstruction of states: [n, d_model]."""
        active = self.encode(states)
        chosen = torch.zeros_like(active)
        chosen[:, list(latents)] = active[:, list(latents)]
        return self._decode(chosen) - self._decode(torch.zeros_like(active[:1]))

    def _decode(self, active: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.sae.decode(active)


def load_sae(source: str | Path, model: Any, *, layer: int | None = None) -> Sae:
    """An SAE for `model`: a local folder (cfg.json, sae_weights.safetensors), or "release:sae_id" of the model hub.

    The layer is read from its metadata, or `layer` says it. Raises `ModelError` without sae-lens, for another width and
    for SAEs of other places than the residual stream after a block, `StorageError` for what cannot be read.
    """
    try:
        from sae_lens import SAE
    except ImportError as error:
        raise ModelError("SAEs need sae-lens", do="pip install 'mechgate[sae]'") from error
    text = str(source)
    try:
        if Path(source).is_dir():
            sae: Any = SAE.load_from_disk(source)
        elif ":" in text:
            release, _, name = text.partition(":")
            sae = SAE.from_pretrained(release, name)
        else:
            raise StorageError("no SAE there", got=text, allowed="a folder, or release:sae_id of the model hub")
    except StorageError:
        raise
    except Exception as error:  # sae-lens, safetensors and the hub raise many kinds; all mean the same to the user
        raise StorageError(
            f"the SAE {text!r} cannot be read",
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="name a folder that sae-lens can load, or release:sae_id with the network at hand",
        ) from error
    return as_sae(sae, model, layer=layer, name=text)


def as_sae(sae: Any, model: Any, *, layer: int | None = None, name: str = "SAE") -> Sae:
    """A loaded sae-lens SAE as `Sae`, checked against `model`; raises `ModelError` as `load_sae` does."""
    hook = str(sae.cfg.metadata.hook_name or "")
    found = _LAYER.match(hook)
    if layer is None and not found:
        raise ModelError(
            "that SAE is not of the residual stream after a block",
            got=hook or "no hook name in its metadata",
            allowed="blocks.N.hook_resid_post",
            do="pass layer=N if it is and does not say so",
        )
    chosen = layer if layer is not None else int(found[1]) if found else -1
    all_sites(model, [chosen])
    if sae.cfg.d_in != shape_of(model).d_model:
        raise ModelError("the SAE is of another width", got=sae.cfg.d_in, allowed=shape_of(model).d_model)
    if sae.cfg.normalize_activations not in _UNSCALED:
        raise ModelError(
            "the SAE scales every state by itself, so that its latents have no directions of their own",
            got=sae.cfg.normalize_activations,
            allowed=_UNSCALED,
        )
    return Sae(sae=sae.eval().requires_grad_(False), layer=chosen, name=name)


def feature_means(
    model: Any,
    sae: Sae,
    prompts: Sequence[Pair | Example | Sequence[Message]],
    *,
    position: str = "last",
    label: str | None = "features",
) -> np.ndarray:
    """Mean activation of each latent over the tokens of a position (`measure.activations`): fp32 [n_prompts, n_latents].

    Encoded token by token, then averaged. Gates attached around the call act.
    """
    transform = (sae.encode, sae.n_latents)
    found = activations(model, prompts, layers=[sae.layer], position=position, transform=transform, label=label)
    return found[:, 0]


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a latent is active: how much, the `token`, and the text `before` and `after` it."""

    activation: float
    before: str
    token: str
    after: str


def firing_rates(model: Any, sae: Sae, texts: Sequence[str | Example]) -> np.ndarray:
    """The share of the texts' tokens (`text_states`) on which each latent is active: [n_latents]."""
    _, _, states = text_states(model, texts, sae.layer)
    active = torch.zeros(sae.n_latents)
    for part in states.split(_TOKENS):
        active += (sae.encode(part) > 0).sum(dim=0)
    return (active / len(states)).double().numpy()


def top_contexts(
    model: Any, sae: Sae, texts: Sequence[str | Example], latents: Sequence[int], *, n: int = 5, window: int = 8
) -> dict[int, list[Context]]:
    """For each latent the `n` texts' tokens on which it is most active, at most one a text, with `window` tokens on
    either side. A latent that is active nowhere has none."""
    ids, which, states = text_states(model, texts, sae.layer)
    chosen = list(latents)
    active = torch.cat([sae.encode(part)[:, chosen] for part in states.split(_TOKENS)]).numpy()
    tokenizer = model_info(model).tokenizer
    found: dict[int, list[Context]] = {latent: [] for latent in chosen}
    for column, latent in enumerate(chosen):
        seen: set[int] = set()
        for place in np.argsort(-active[:, column], kind="stable"):
            if active[place, column] <= 0 or len(seen) == n:
                break
            if which[place] in seen:
                continue
            seen.add(int(which[place]))
            own = np.flatnonzero(which == which[place])
            first, last = max(own[0], place - window), min(own[-1], place + window)
            parts = [ids[first:place], ids[place : place + 1], ids[place + 1 : last + 1]]
            before, token, after = (tokenizer.decode(part.tolist()) for part in parts)
            value = float(active[place, column])
            found[latent].append(Context(activation=value, before=before, token=token, after=after))
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentDial:
    """Ablates `latents` of an SAE: at strength 1 what they add to the reconstruction is taken away, the error term and all
    other latents stay; at strength 0 nothing is changed."""

    sae: Sae
    latents: tuple[int, ...]

    @contextmanager
    def attached(self, model: Any, strength: float) -> Iterator[None]:
        """Ablate inside the block. Raises `InputError` for a strength that is not finite, `HookError` if nothing ran."""
        if not np.isfinite(strength):
            raise InputError("strength must be finite", got=strength)

        def ablate(value: torch.Tensor) -> torch.Tensor | None:
            if strength == 0 or not self.latents:
                return None
            flat = value.reshape(-1, value.shape[-1])
            return value - strength * self.sae.part_of(flat, self.latents).reshape(value.shape).to(value.dtype)

        with _at(model, self.sae, ablate):
            yield


def loss_recovered(model: Any, sae: Sae, texts: Sequence[str | Example]) -> float:
    """The share of the loss that the reconstruction keeps: (L0 - L_sae) / (L0 - L), L with states as they are and L0 with
    all of them 0; over the tokens of `texts`. 1 is perfect; below .9 overlap claims are not made; 0 too where
    the loss does not rise without the states, so that nothing can be shown."""
    arms = [
        None,
        partial(_at, model, sae, lambda value: _reconstructed(sae, value)),
        partial(_at, model, sae, torch.zeros_like),
    ]
    found = neutral_text(model, texts, arms, label=None)
    plain, kept, none = (float(arm.nll.sum() / arm.tokens.sum()) for arm in found)
    return (none - kept) / (none - plain) if none > plain else 0.0


def _reconstructed(sae: Sae, value: torch.Tensor) -> torch.Tensor:
    return sae.reconstruct(value.reshape(-1, value.shape[-1])).reshape(value.shape).to(value.dtype)


def _at(model: Any, sae: Sae, change: hooking.Hook) -> Any:
    return hooking.attached(model, {HOOKS["resid_post"].format(sae.layer): change})
