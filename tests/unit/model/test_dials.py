"""Laws of an adapter as a dial: 1 is the host, 0 the base bit for bit, and every strength scales what LoRA adds."""

from typing import Any

import pytest
import torch

from mechgate.errors import InputError, ModelError
from mechgate.model.dials import AdapterDial
from mechgate.model.loading import load_model
from mechgate.testing import tiny_hf, tiny_model
from tests.unit.model.test_loading import logits, with_lora


def scaled_by_hand(strength: float, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the base with strength times what LoRA adds put into its weights."""
    host, plain = with_lora(tiny_hf()), tiny_hf()
    parts = dict(host.named_modules())
    with torch.no_grad():
        for name, module in plain.named_modules():
            lora = parts.get(f"base_model.model.{name}")
            if lora is not None and hasattr(lora, "get_delta_weight"):
                module.weight += strength * lora.get_delta_weight("default")
    return logits(load_model(plain), tokens)


@pytest.fixture
def host() -> Any:
    return load_model(with_lora(tiny_hf()))


@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.5, 2.0])
def test_what_lora_adds_is_multiplied(host: Any, tokens: torch.Tensor, strength: float) -> None:
    with AdapterDial().attached(host, strength):
        found = logits(host, tokens)
    assert (found - scaled_by_hand(strength, tokens)).abs().max() <= 1e-4
    assert (found - logits(host, tokens)).abs().max() > 1e-3


def test_strength_0_is_the_base_and_1_the_host_bit_for_bit(host: Any, tokens: torch.Tensor) -> None:
    as_is = logits(host, tokens)
    with AdapterDial().attached(host, 0.0):
        assert torch.equal(logits(host, tokens), logits(load_model(tiny_hf()), tokens))
    with AdapterDial().attached(host, 1.0):
        assert torch.equal(logits(host, tokens), as_is)


def test_the_adapter_is_as_before_after_the_block_even_after_an_error(host: Any, tokens: torch.Tensor) -> None:
    as_is = logits(host, tokens)
    with pytest.raises(RuntimeError, match="inside"), AdapterDial().attached(host, -2.0):
        raise RuntimeError("inside")
    assert torch.equal(logits(host, tokens), as_is)


def test_a_model_without_adapter_and_a_strength_that_is_no_number_are_errors(host: Any) -> None:
    with pytest.raises(ModelError, match="no LoRA adapter"), AdapterDial().attached(tiny_model("llama"), 1.0):
        pass
    with pytest.raises(InputError, match="finite"), AdapterDial().attached(host, float("inf")):
        pass
