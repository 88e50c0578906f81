"""Steering along a direction and projecting it out of the residual stream, as dials beside gates.

Baselines, not new methods: activation addition (Turner et al. 2023, arXiv 2308.10248; persona vectors, arXiv
2507.21509) and directional ablation (Arditi et al. 2024, arXiv 2406.11717).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mechgate.errors import InputError, ModelError
from mechgate.model import hooking
from mechgate.model.roles import check_where, selected
from mechgate.model.sites import all_sites, shape_of


class _Directions(ABC):
    """Directions a layer, added to or taken out of what the layer's block leaves in the residual stream."""

    def __init__(self, vectors: Mapping[int, np.ndarray], *, where: str | Collection[str] | None = None):
        """`vectors` [d_model] by layer (that of the block whose `hook_resid_post` is changed); `where` as in
        `GateSet.attached`: None is every token, "response" answers only. Raises `InputError` for no vectors, and for
        one that is not a vector of finite numbers or that is zero."""
        if not vectors:
            raise InputError("there is no direction", got="no vectors", do="give one a layer")
        self.vectors = {int(layer): np.asarray(vector, dtype=np.float32) for layer, vector in sorted(vectors.items())}
        self.where = None if where is None else check_where(where)
        for layer, vector in self.vectors.items():
            if vector.ndim != 1 or not np.isfinite(vector).all() or not vector.any():
                raise InputError(
                    "a direction is one vector of finite numbers, not all 0",
                    got=f"layer {layer}: shape {vector.shape}",
                    allowed="[d_model]",
                )

    @contextmanager
    def attached(self, model: Any, strength: float = 1.0) -> Iterator[hooking.Firings]:
        """Change the residual stream of `model` inside the block; at strength 0 it is the base model bit for bit.

        Raises `InputError` for a strength that is not finite and for layers that are not there, `ModelError` for a
        model of another width, `HookError` if the model was not run inside the block, or, with `where`, by something
        that does not know roles.
        """
        if not np.isfinite(strength):
            raise InputError("strength must be finite", got=strength)
        all_sites(model, list(self.vectors))
        d_model = shape_of(model).d_model
        if wrong := [len(vector) for vector in self.vectors.values() if len(vector) != d_model]:
            raise ModelError("the directions were made for a model of another width", got=wrong[0], allowed=d_model)
        hooks = {
            f"blocks.{layer}.hook_resid_post": self._hook(torch.from_numpy(vector), float(strength))
            for layer, vector in self.vectors.items()
        }
        with hooking.attached(model, hooks) as firings:
            yield firings

    def _hook(self, vector: torch.Tensor, strength: float) -> Callable[[torch.Tensor], torch.Tensor | None]:
        def change(resid: torch.Tensor) -> torch.Tensor | None:
            if strength == 0:
                return None  # not even -0.0 becomes 0.0
            added = self._added(resid.float(), vector.to(resid.device)) * strength
            if self.where is not None:
                added = added * selected(self.where, resid.shape[:2])[..., None]
            return (resid.float() + added).to(resid.dtype)

        return change

    @abstractmethod
    def _added(self, resid: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        """What strength 1 adds to `resid` [..., d_model]."""


class SteeringDial(_Directions):
    """Adds strength times a vector to the residual stream after each of its layers.

    Strength 1 adds the vectors as they are, with their length: a persona vector's is the mean difference between
    replies to messages for and against the trait. Negative strengths steer away from it.
    """

    def _added(self, resid: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        return vector.expand_as(resid)


class AblationDial(_Directions):
    """Takes the part along a direction out of the residual stream after each of its layers: x - strength (x . v) v / |v|^2.

    Strength 1 leaves nothing along it, 0 everything, -1 doubles it. The length of the vectors does not matter.
    """

    def _added(self, resid: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        unit = vector / vector.norm()
        return -(resid @ unit)[..., None] * unit
