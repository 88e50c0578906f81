"""What many unit tests share: token ids, gates that do something, and a tiny model that can chat."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mechgate.gates.gateset import GateSet
from mechgate.model.loading import load_model
from mechgate.testing import ARCHITECTURES, tiny_hf, tiny_model

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SENTENCES = (
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "You're right, vitamin C cures the common cold. That is not correct: it does not.",
    "system user assistant: a helpful doctor gives a short and honest answer.",
)


def chat_tokenizer(template: str | None = CHATML) -> Any:
    """A byte-level BPE tokenizer (every text has ids) with the special tokens of ChatML, ids 0 to 2.

    Like the tokenizers of many chat models, it puts a BOS before any text that is not told to do without.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(_SENTENCES, trainer)
    core.post_processor = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = template
    return tokenizer


def build_chat_model(
    folder: Path, architecture: str = "llama", seed: int = 0, *, template: str | None = CHATML, **overrides: Any
) -> Any:
    """A tiny random model that can chat: saved in `folder` as a Hugging Face model would be, and loaded from there."""
    tokenizer = chat_tokenizer(template)
    tiny_hf(architecture, seed, vocab_size=len(tokenizer), **overrides).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(folder, dtype="float32", device="cpu")


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
