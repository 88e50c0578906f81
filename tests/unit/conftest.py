"""What many unit tests share: token ids, gates that do something, and a tiny model that can chat."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mechgate.gates.gateset import GateSet
from mechgate.testing import ARCHITECTURES, tiny_model
from mechgate.testing import tiny_chat_model as build_chat_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: tiny models gain nothing from a second, and on a busy machine threads that wait for it cost a lot."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=ARCHITECTURES)
def bridge(request: pytest.FixtureRequest) -> Any:
    """One tiny random bridge of each architecture for all tests (`tiny` is a fresh one); leave it as it was."""
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def tiny_chat_model() -> Callable[..., Any]:
    """`tiny_chat_model(folder, architecture="llama", seed=0)`: writes a tiny chat model there and loads it."""
    return build_chat_model


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One tiny Llama with a ChatML tokenizer for all tests; leave it as it was."""
    return build_chat_model(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Random token ids [2, 11] that every tiny model knows."""
    return torch.randint(3, 128, (2, 11), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def shaken() -> Callable[..., GateSet]:
    """`shaken(gates, seed=0, size=1.0)`: the same gates with random parameters in place of ones that do nothing."""

    def shake(gates: GateSet, seed: int = 0, size: float = 1.0) -> GateSet:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in gates.parameters():
                scale = size if parameter.ndim == 1 else size / parameter.shape[-1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        return gates

    return shake


@pytest.fixture
def in_pieces() -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """`in_pieces(hf, tokens)`: logits of four tokens at once and then one at a time, through a KV cache."""

    def run(hf: Any, tokens: torch.Tensor) -> torch.Tensor:
        part = hf(input_ids=tokens[:, :4], use_cache=True)
        pieces = [part.logits]
        for i in range(4, tokens.shape[1]):
            part = hf(input_ids=tokens[:, i : i + 1], past_key_values=part.past_key_values, use_cache=True)
            pieces.append(part.logits)
        return torch.cat(pieces, dim=1)

    return run
