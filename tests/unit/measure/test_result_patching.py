"""Laws of patches between models: none from itself, those of z where W_O is one, and first order where little differs."""

from typing import Any

import numpy as np
import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.patching import patch_heads, unpatched
from mechgate.measure.result_patching import ResultPatches
from mechgate.model.resume import Resumable
from mechgate.testing import tiny_model

IDS = [5, 9, 17, 3, 80, 41]


def metric(logits: torch.Tensor) -> torch.Tensor:
    return logits[0, -1, 7] - logits[0, -1, 11]


def test_a_model_differs_from_itself_in_nothing(llama: Any) -> None:
    exact, first = ResultPatches(llama, llama).maps(IDS, metric)
    assert not exact.any()
    assert not first.any()


def gated(size: float, shaken: Any, architecture: str = "llama") -> Any:
    """The same weights with gates attached for good."""
    host = tiny_model(architecture)
    context = shaken(GateSet.identity(host), size=size).attached(host)
    context.__enter__()
    host.__dict__["_kept"] = context
    return host


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_with_one_w_o_results_are_patched_as_z_is(architecture: str, shaken: Any) -> None:
    model, host = tiny_model(architecture), gated(1.0, shaken, architecture)
    exact, _ = ResultPatches(model, host).maps(IDS, metric)
    own = unpatched(Resumable(model, IDS), metric)
    assert np.abs(exact).max() > 0.01
    np.testing.assert_allclose(exact, patch_heads(model, IDS, IDS, metric, source=host) - own, atol=1e-4)


def test_the_first_order_is_the_slope(llama: Any, shaken: Any) -> None:
    exact, first = ResultPatches(llama, gated(1e-3, shaken)).maps(IDS, metric)
    np.testing.assert_allclose(first, exact, atol=0.02 * np.abs(exact).max())


def test_all_heads_restored_is_the_other_model_and_the_order_of_roles_matters(llama: Any, shaken: Any) -> None:
    host = gated(1.0, shaken)
    every = [(k, h) for k in range(3) for h in range(4)]
    own = [one(torch.tensor([IDS])).detach()[0] for one in (llama, host)]
    assert (own[0] - own[1]).abs().max() > 0.01
    for (a, b), expected in (((host, llama), own[0]), ((llama, host), own[1])):
        restored = ResultPatches(a, b).restored(IDS, every)
        torch.testing.assert_close(restored, expected, atol=1e-4, rtol=0)
        assert (ResultPatches(a, b).restored(IDS, every[1:]) - expected).abs().max() > 1e-3


def test_models_of_different_shapes_are_refused(llama: Any) -> None:
    with pytest.raises(InputError, match="shape"):
        ResultPatches(llama, tiny_model(num_hidden_layers=2))
