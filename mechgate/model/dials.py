"""Dials: what changes a model by a strength, for a block. Gates are one; a LoRA adapter, scaled, is another."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np

from mechgate.errors import InputError, ModelError


class Dial(Protocol):
    """Whatever changes a model by a strength inside a block: `GateSet`, `AdapterDial`, `SteeringDial`, `AblationDial`."""

    def attached(self, model: Any, strength: float) -> AbstractContextManager[Any]:
        """Change `model` inside the block; at strength 0 it is the base model."""
        ...


class AdapterDial:
    """The adapter of a model that was loaded with one (`load_model(..., adapter=folder)`), turned by a strength.

    Strength 1 is the adapter as it was trained, 0 the base model, -1 the negated adapter (task arithmetic,
    arXiv 2212.04089): what LoRA adds to each weight is multiplied by it.
    """

    @contextmanager
    def attached(self, model: Any, strength: float) -> Iterator[None]:
        """Scale the adapter of `model` inside the block.

        Raises `ModelError` for a model without an un-merged LoRA adapter, `InputError` for a strength that is not
        finite.
        """
        if not np.isfinite(strength):
            raise InputError("strength must be finite", got=strength)
        with ExitStack() as stack:
            try:
                from peft.helpers import rescale_adapter_scale

                stack.enter_context(rescale_adapter_scale(model.original_model, float(strength)))
            except (ImportError, ValueError) as error:
                raise ModelError(
                    "the model has no LoRA adapter to scale", do="load it with load_model(..., adapter=folder)"
                ) from error
            yield
