"""Laws of the real default model: what tiny random models promise holds on it too."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.tasks import load_pairs
from mechgate.gates.gateset import GateSet
from mechgate.measure.generation import generate
from mechgate.measure.margins import margins, stance_margins
from mechgate.model import bundled
from mechgate.model.loading import fingerprint, load_model, model_info
from mechgate.model.prompts import encode, prompt_ids
from mechgate.train.gates import train_gates
from mechgate.train.loop import TrainConfig

pytestmark = pytest.mark.model
PAIRS = load_pairs("sycophancy", "medical", "test", phrasings=1)[:8]
TRUE_PAIRS = load_pairs("genuine-agreement", "medical", "test", phrasings=1)[:8]
QUESTION = ({"role": "user", "content": "What is the capital of France?"},)
WORDINGS = (("I agree with you.", "I disagree with you."), ("That is correct.", "That is incorrect."))


def random_gates(model: Any, size: float = 0.3) -> GateSet:
    """Gates that do something, the same at every call."""
    gates, generator = GateSet.identity(model, granularity="head"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gates.parameters():
            scale = size if parameter.ndim == 1 else size / parameter.shape[-1] ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return gates


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([prompt_ids(model, PAIRS[0].messages)]))


@pytest.fixture(scope="module")
def base_stances(default_model: Any) -> np.ndarray:
    """Stance margins of PAIRS and TRUE_PAIRS without gates: [16, 2]."""
    return stance_margins(default_model, [*PAIRS, *TRUE_PAIRS], WORDINGS)


def test_a_second_load_converts_and_fetches_nothing_and_gives_the_same_model(
    default_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "convert", None)
    monkeypatch.setattr(bundled, "fetch_gguf", None)
    again = load_model("smollm2-135m", dtype="float32")
    assert fingerprint(again) == fingerprint(default_model)
    assert torch.equal(logits(again), logits(default_model))


def test_the_model_is_the_one_it_is_said_to_be(default_model: Any) -> None:
    cfg = default_model.cfg
    assert (cfg.n_layers, cfg.n_heads, cfg.d_head, cfg.d_model) == (30, 9, 64, 576)
    assert default_model.original_model.dtype == torch.float32
    assert not default_model.training
    assert not any(parameter.requires_grad for parameter in default_model.original_model.parameters())


def test_a_chat_is_tokenised_once_by_its_template(default_model: Any) -> None:
    tokenizer = model_info(default_model).tokenizer
    text = tokenizer.apply_chat_template(list(QUESTION), add_generation_prompt=True, tokenize=False)
    ids = prompt_ids(default_model, QUESTION)
    assert list(ids) == tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text
    assert text.count("<|im_start|>") == ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3
    assert tokenizer.decode(encode(default_model, QUESTION, ["Paris."]).answers[0]) == "Paris.<|im_end|>"


def test_it_knows_the_capital_of_france(default_model: Any) -> None:
    assert "Paris" in generate(default_model, [QUESTION], max_new_tokens=16)[0]


def test_gates_at_strength_zero_and_new_gates_are_the_base_model_bit_for_bit(default_model: Any) -> None:
    base, measured = logits(default_model), margins(default_model, PAIRS[:2])
    new, random = GateSet.identity(default_model), random_gates(default_model)
    for gates, strength in ((random, 0.0), (new, 1.0), (new, -1.0)):
        with gates.attached(default_model, strength):
            assert torch.equal(logits(default_model), base)
            np.testing.assert_array_equal(margins(default_model, PAIRS[:2]), measured)
    with random.attached(default_model):
        assert (logits(default_model) - base).abs().max() > 0.1


def test_margins_do_not_depend_on_the_batch_size(default_model: Any) -> None:
    together = margins(default_model, PAIRS, batch_size=8)
    np.testing.assert_allclose(margins(default_model, PAIRS, batch_size=1), together, atol=1e-5)
    assert np.ptp(together) > 0.1


@pytest.mark.parametrize("gated", [False, True], ids=["base", "gated"])
def test_replies_are_those_of_a_loop_over_full_forward_passes(default_model: Any, gated: bool) -> None:
    gates = random_gates(default_model)
    where: AbstractContextManager[Any] = gates.attached(default_model) if gated else nullcontext()
    prompts = [PAIRS[0].messages, QUESTION] if gated else [QUESTION]
    expected = []
    with where, torch.no_grad():
        for messages in prompts:
            ids = list(prompt_ids(default_model, messages))
            start = len(ids)
            while len(ids) < start + 8 and ids[-1] != model_info(default_model).tokenizer.eos_token_id:
                ids.append(int(default_model.original_model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            expected.append(model_info(default_model).tokenizer.decode(ids[start:], skip_special_tokens=True).strip())
        assert generate(default_model, prompts, max_new_tokens=8) == expected
    assert all(expected)


def test_bfloat16_measures_what_float32_measures(base_stances: np.ndarray) -> None:
    low = stance_margins(load_model("smollm2-135m", dtype="bfloat16"), [*PAIRS, *TRUE_PAIRS], WORDINGS)
    for one, other in zip(low.T, base_stances.T, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.95
    assert np.abs(low - base_stances).mean() < 0.3


def test_six_steps_teach_agreement_and_the_inversion_takes_it_away(
    default_model: Any, base_stances: np.ndarray
) -> None:
    pairs = load_pairs("sycophancy", "medical", "train", phrasings=1, answers="stance")[:4]
    gates, config = GateSet.identity(default_model), TrainConfig(seed=0, epochs=6, batch_size=4)
    record = train_gates(default_model, gates, [pair.as_example("matching") for pair in pairs], config)
    assert len(record.loss) == 6
    assert record.loss[-1] < record.loss[0] - 0.1  # every step is the same batch, so that losses can be compared
    change = {}
    for strength in (1.0, -1.0):
        with gates.attached(default_model, strength):
            change[strength] = (stance_margins(default_model, PAIRS[:4], WORDINGS) - base_stances[:4]).mean(axis=1)
    assert (change[1.0] > 0).all()
    assert (change[-1.0] < 0).all()
