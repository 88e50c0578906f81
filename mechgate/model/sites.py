"""Where gates read and write: layers and heads <-> TransformerLens hook points."""

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mechgate.errors import InputError, ModelError

if TYPE_CHECKING:
    import torch

_HOOK = re.compile(r"^blocks\.(\d+)\.attn\.(hook_in|hook_z)$")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The dimensions gates depend on. `n_heads` counts query heads (the heads of z under grouped queries)."""

    n_layers: int
    n_heads: int
    d_head: int
    d_model: int

    @property
    def d_z(self) -> int:
        """Units a layer writes: n_heads * d_head, head-major."""
        return self.n_heads * self.d_head

    def differences(self, other: "Shape") -> list[str]:
        """What differs between two shapes, in words; empty when they are equal."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{k} {mine[k]} against {theirs[k]}" for k in mine if mine[k] != theirs[k]]


def shape_of(model: Any) -> Shape:
    """The shape of a bridge."""
    cfg = model.cfg
    return Shape(n_layers=cfg.n_layers, n_heads=cfg.n_heads, d_head=cfg.d_head, d_model=cfg.d_model)


@dataclass(frozen=True, order=True)
class Site:
    """One place where a gate acts: the attention block of `layer`.

    A gate reads the block's normalised input (`blocks.L.attn.hook_in`, [batch, pos, d_model]; not
    `ln1.hook_normalized`, which lacks the norm's weight) and multiplies z (`blocks.L.attn.hook_z`,
    [batch, pos, head, d_head]), the per-head attention output before W_O.
    """

    layer: int

    @property
    def read(self) -> str:
        return f"blocks.{self.layer}.attn.hook_in"

    @property
    def write(self) -> str:
        return f"blocks.{self.layer}.attn.hook_z"

    @classmethod
    def of_hook(cls, name: str) -> "Site":
        """The site that a hook point's name belongs to; raises `InputError` for any other hook point."""
        if not (match := _HOOK.match(name)):
            raise InputError(
                "not a hook point that gates use", got=repr(name), allowed="blocks.L.attn.hook_in, blocks.L.attn.hook_z"
            )
        return cls(int(match.group(1)))


def all_sites(model: Any, layers: list[int] | None = None) -> tuple[Site, ...]:
    """The sites of `layers` (default: every layer), in order; raises `InputError` for a layer that is not there."""
    n = shape_of(model).n_layers
    chosen = list(range(n)) if layers is None else sorted(layers)
    wrong = [layer for layer in chosen if not 0 <= layer < n]
    if wrong or not chosen or len(set(chosen)) != len(chosen):
        raise InputError(
            "layers must be different layer numbers of the model",
            got=layers,
            allowed=f"0 to {n - 1}, each at most once, at least one",
        )
    return tuple(Site(layer) for layer in chosen)


def is_post_norm(model: Any) -> bool:
    """True where no norm stands between the residual stream and attention (OLMo2): the gate's input is undefined."""
    mapping = model.adapter.component_mapping or {}
    blocks = mapping.get("blocks")
    ln1 = (getattr(blocks, "submodules", None) or {}).get("ln1")
    return ln1 is None or str(ln1.name).startswith("post")


def check_gateable(model: Any, *, allow_post_norm: bool = False) -> None:
    """Raise `ModelError` where gates would be silently wrong: folded weights, no bridge, no norm before attention."""
    if not hasattr(model, "hook_dict") or not hasattr(model, "original_model"):
        raise ModelError(
            "mechgate works on a TransformerBridge",
            got=type(model).__name__,
            do="load the model with mechgate.load_model(...), which takes a loaded Hugging Face model too",
        )
    if getattr(model, "_weights_processed", False):
        raise ModelError(
            "the model's norm weights are folded (enable_compatibility_mode), so gates would read another input",
            do="load it again with mechgate.load_model and do not process its weights",
        )
    if not allow_post_norm and is_post_norm(model):
        raise ModelError(
            f"{type(model.original_model).__name__} has no norm before attention, so the gate's input is not defined",
            do="pass allow_post_norm=True to load_model to let gates read the raw residual stream instead",
        )


def output_projection(model: Any, layer: int) -> "torch.Tensor":
    """W_O of a layer as fp32 [d_z, d_model], by running the projection on unit vectors: any kind of layer, adapters
    included. Raises `ModelError` for a block without one."""
    import torch

    projection = getattr(model.blocks[layer].attn, "o", None)
    if projection is None:
        raise ModelError("the attention block's output projection cannot be found", got=f"layer {layer}")
    like = next(model.original_model.parameters())
    # The module below the bridge's, so that no hook sees these vectors.
    run = projection.original_component
    with torch.no_grad():
        units = torch.eye(shape_of(model).d_z, dtype=like.dtype, device=like.device)
        return run(units).float() - run(torch.zeros_like(units[:1])).float()
