"""Tiny random models of every supported architecture, for our tests and for yours. Nothing is downloaded."""

from pathlib import Path
from typing import Any

from mechgate.errors import check_choice

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SENTENCES = (
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "You're right, vitamin C cures the common cold. That is not correct: it does not.",
    "system user assistant: a helpful doctor gives a short and honest answer.",
)

_COMMON: dict[str, Any] = dict(
    vocab_size=128,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=2,
)
_GQA: dict[str, Any] = _COMMON | dict(num_key_value_heads=2)
_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _GQA | dict(head_dim=16)),
    "qwen2": ("Qwen2Config", _GQA),
    "qwen3": ("Qwen3Config", _GQA | dict(head_dim=12)),
    "mistral": ("MistralConfig", _GQA | dict(sliding_window=6)),
    "gemma2": ("Gemma2Config", _GQA | dict(head_dim=8, sliding_window=6, query_pre_attn_scalar=8, layer_types=_LAYERS)),
    "gemma3": (
        "Gemma3TextConfig",
        _GQA | dict(head_dim=8, sliding_window=6, query_pre_attn_scalar=8, layer_types=_LAYERS),
    ),
    "gpt2": (
        "GPT2Config",
        dict(vocab_size=128, n_embd=32, n_layer=3, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2),
    ),
    "gpt_neox": ("GPTNeoXConfig", _COMMON | dict(use_parallel_residual=True)),
    "gpt_neox_sequential": ("GPTNeoXConfig", _COMMON | dict(use_parallel_residual=False)),
    "phi3": ("Phi3Config", _GQA),
    "olmo2": ("Olmo2Config", _GQA),
}
ARCHITECTURES = tuple(name for name in _CONFIGS if name != "olmo2")


def tiny_hf(architecture: str = "llama", seed: int = 0, **overrides: Any) -> Any:
    """A random HF causal model in fp32: 3 layers, 4 heads, d_model 32, 128 tokens; weights depend on `seed` only.

    Weights are scaled up so that attention, and so gates, visibly change the logits. `overrides` go to the config.
    """
    import torch
    import transformers

    check_choice("architecture", architecture, tuple(_CONFIGS))
    config_class, values = _CONFIGS[architecture]
    config = getattr(transformers, config_class)(**(values | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for name, parameter in hf.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5 if "emb" in name or "wte" in name else 0.25)
    return hf.eval()


def tiny_model(architecture: str = "llama", seed: int = 0, **overrides: Any) -> Any:
    """`tiny_hf` as a frozen TransformerBridge, without a tokenizer: it takes token ids only."""
    from mechgate.model.loading import load_model

    return load_model(tiny_hf(architecture, seed, **overrides), allow_post_norm=architecture == "olmo2", device="cpu")


def planted_gates(model: Any, heads: Any, directions: Any, **options: Any) -> Any:
    """Gates that are selective on known heads along known directions: see `mechgate.planted.gates.planted_gates`."""
    from mechgate.planted.gates import planted_gates as plant

    return plant(model, heads, directions, **options)


def chat_tokenizer(template: str | None = CHATML) -> Any:
    """A byte-level BPE tokenizer (every text has ids) with the special tokens of ChatML, ids 0 to 2.

    Like the tokenizers of many chat models, it puts a BOS before any text that is not told to do without.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

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


def tiny_chat_model(
    folder: Path, architecture: str = "llama", seed: int = 0, *, template: str | None = CHATML, **overrides: Any
) -> Any:
    """A tiny random model that can chat: saved in `folder` as a Hugging Face model would be, and loaded from there."""
    from mechgate.model.loading import load_model

    tokenizer = chat_tokenizer(template)
    tiny_hf(architecture, seed, vocab_size=len(tokenizer), **overrides).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(folder, dtype="float32", device="cpu")
