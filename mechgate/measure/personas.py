"""Persona vectors and their public files: one direction a place of the residual stream, from the embeddings on.

The public format (Chen et al. 2025, arXiv 2507.21509) is a tensor [n_layers + 1, d_model] in
`{trait}_{variant}_diff.pt`. Index 0 is the embeddings and index L what block L - 1 leaves: whoever takes index L for
layer L is off by one. So nobody indexes here: `after_block(layer)` and `before_block(layer)` say which place is meant.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechgate.errors import DataError, InputError, ModelError, StorageError, check_choice
from mechgate.model.sites import Shape
from mechgate.provenance import atomic_path, provenance, write_json

VARIANTS = ("response_avg", "prompt_last", "prompt_avg")
"""Where they are read: mean over the reply's tokens, the prompt's last token, mean over the prompt (read only)."""
SUFFIX = "_diff.pt"


@dataclass(frozen=True, kw_only=True, eq=False)
class PersonaVectors:
    """A trait's vectors: `vectors` fp32 [n_layers + 1, d_model], in the residual stream's own unit and with their length.

    `variant` says at which tokens they were read, `n` from how many pairs of replies (None if unknown), `model` which
    model's they are (a fingerprint, empty if unknown). `normed_end`: the last one was read behind the final norm, as
    Hugging Face's last hidden state is and so the published ones are; it is then no direction of the residual stream.

    Raises `InputError` for any other shape, an unknown variant and numbers that are not finite.
    """

    trait: str
    variant: str
    vectors: np.ndarray
    n: int | None = None
    model: str = ""
    normed_end: bool = False

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, VARIANTS)
        v = self.vectors
        if v.ndim != 2 or len(v) < 2 or not v.shape[1] or not np.isfinite(v).all():
            raise InputError(
                f"persona vectors of {self.trait} are not one finite vector a place",
                got=f"shape {v.shape}",
                allowed="[n_layers + 1, d_model]: the embeddings first, then what each block leaves",
            )

    @property
    def n_layers(self) -> int:
        return len(self.vectors) - 1

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks behind which there is a direction of the residual stream."""
        return tuple(range(self.n_layers - int(self.normed_end)))

    def after_block(self, layer: int) -> np.ndarray:
        """The vector [d_model] in `blocks.{layer}.hook_resid_post`; raises `InputError` where there is none."""
        if layer not in self.blocks:
            raise InputError(
                f"{self.trait} has no vector behind that block",
                got=layer,
                allowed=f"0 to {self.blocks[-1]}",
                do="the published vectors' last entry is behind the final norm" if layer == self.n_layers - 1 else None,
            )
        return self.vectors[layer + 1]

    def before_block(self, layer: int) -> np.ndarray:
        """The vector [d_model] in `blocks.{layer}.hook_resid_pre`, which the block's gate reads through its norm."""
        if not 0 <= layer < self.n_layers:
            raise InputError(f"{self.trait} has no such block", got=layer, allowed=f"0 to {self.n_layers - 1}")
        return self.vectors[layer]

    def check_fits(self, shape: Shape) -> None:
        """Raise `ModelError` unless these are vectors of a model of that shape: n_layers + 1 of d_model."""
        if self.vectors.shape == (shape.n_layers + 1, shape.d_model):
            return
        lost = self.vectors.shape == (shape.n_layers, shape.d_model)
        raise ModelError(
            f"the vectors of {self.trait} do not fit the model",
            got=list(self.vectors.shape),
            allowed=str([shape.n_layers + 1, shape.d_model]),
            do="one is missing: put the embeddings' vector first, or every layer would be off by one" if lost else None,
        )


def vector_file(folder: str | Path, trait: str, variant: str = "response_avg") -> Path:
    """Where the public format has a trait's vectors: `{trait}_{variant}_diff.pt` in a folder."""
    return Path(folder) / f"{trait}_{variant}{SUFFIX}"


def save_personas(found: PersonaVectors, folder: str | Path, **more: Any) -> Path:
    """Write the vectors in the public format, and what it cannot hold (`more` too) as JSON beside it; returns the path.

    Both are whole or absent. Raises `StorageError` if they cannot be written.
    """
    path = vector_file(folder, found.trait, found.variant)
    with atomic_path(path) as temporary:
        torch.save(torch.from_numpy(np.array(found.vectors, dtype=np.float32)), temporary)
    record = {"trait": found.trait, "variant": found.variant, "n": found.n, "model": found.model}
    places = "index 0: embeddings; index L: hook_resid_post of block L - 1"
    record |= {"normed_end": found.normed_end, "places": places, **more, "provenance": provenance()}
    write_json(path.with_suffix(".json"), record)
    return path


def read_personas(path: str | Path, shape: Shape | None = None) -> PersonaVectors:
    """Read vectors of the public format; trait and variant are in the file's name, the rest in the JSON beside it.

    Without that JSON the vectors are taken for published ones, whose last entry is behind the final norm. With `shape`
    they must fit that model. Only tensors are read, never code. Raises `StorageError` for a file that is not there,
    `DataError` for one that holds anything else, `ModelError` for vectors of another model's shape.
    """
    path = Path(path)
    name, variant = _name_of(path)
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be read", got=error.strerror or str(error)) from error
    except Exception as error:  # torch raises whatever its unpickler stumbles over
        raise DataError(f"{path} holds no tensor", got=str(error).splitlines()[0][:200]) from error
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise DataError(
            f"{path} holds no persona vectors",
            got=type(tensor).__name__,
            allowed="one tensor of numbers [n_layers + 1, d_model]",
        )
    beside: dict[str, Any] = {"normed_end": True}
    if path.with_suffix(".json").is_file():
        beside = read_sidecar(path)
    try:
        found = PersonaVectors(
            trait=name,
            variant=variant,
            vectors=tensor.float().numpy(),
            n=beside.get("n"),
            model=beside.get("model", ""),
            normed_end=beside["normed_end"],
        )
    except InputError as error:
        raise DataError(f"{path}: {error.what}", got=error.got, allowed=error.allowed) from error
    if shape is not None:
        found.check_fits(shape)
    return found


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """What stands in the JSON beside a file of vectors; raises `DataError` for a missing or damaged one."""
    beside = Path(path).with_suffix(".json")
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
        if not isinstance(record["normed_end"], bool):
            raise ValueError("normed_end is neither true nor false")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{beside} is not what stands beside persona vectors", got=repr(error)) from error
    return record


def _name_of(path: Path) -> tuple[str, str]:
    for variant in VARIANTS:
        end = f"_{variant}{SUFFIX}"
        if path.name.endswith(end) and len(path.name) > len(end):
            return path.name.removesuffix(end), variant
    raise InputError(
        "the file's name does not say trait and variant",
        got=path.name,
        allowed=[f"<trait>_{variant}{SUFFIX}" for variant in VARIANTS],
    )
