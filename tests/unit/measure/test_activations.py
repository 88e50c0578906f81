"""Laws of activations: what running one prompt alone and looking gives, whatever else is measured with it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.pairs import Message, Pair
from mechgate.data.sets import asked
from mechgate.data.tasks import load_pairs
from mechgate.errors import DataError, InputError, ModelError
from mechgate.gates.gateset import GateSet
from mechgate.measure.activations import HOOKS, activations
from mechgate.model import hooking
from mechgate.model.loading import model_info
from mechgate.model.prompts import encode
from mechgate.testing import ARCHITECTURES, tiny_model

PROMPT_POSITIONS = ("last", "mean")
SYSTEM = {"role": "system", "content": "You are a helpful doctor."}
SHARED = [asked(f"Is it true that {what}?") for what in ("the Moon is far", "tea is hot", "it rains", "salt is salty")]
PROMPTS: list[tuple[Message, ...]] = [*SHARED, asked("Hi."), (SYSTEM, *asked("A question. " * 6))]


def slow_activations(
    model: Any, prompts: Sequence[Sequence[Message]], hook: str, position: str, layers: Sequence[int] = (0, 1, 2)
) -> np.ndarray:
    """One prompt at a time through TransformerLens, with logits: text to ids to everything cached to one vector."""
    found = []
    for messages in prompts:
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
        ids = model_info(model).tokenizer(f"{text}<|im_start|>assistant\n", add_special_tokens=False).input_ids
        with torch.no_grad():
            _, cache = model.run_with_cache(torch.tensor([ids]))
        values = [cache[HOOKS[hook].format(layer)][0].double().numpy() for layer in layers]
        found.append([value[-1] if position == "last" else value.mean(axis=0) for value in values])
    return np.array(found)


def assert_equal_enough(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to 1e-5 of the size of what was measured."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: Any, tiny_chat_model: Callable[..., Any]) -> Any:
    """One tiny chat model of each architecture in turn; leave it as it was."""
    return tiny_chat_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("position", PROMPT_POSITIONS)
@pytest.mark.parametrize("hook", HOOKS)
def test_they_are_what_running_each_prompt_alone_and_caching_everything_gives(
    model: Any, hook: str, position: str
) -> None:
    found = activations(model, PROMPTS, hook, position=position, batch_size=4)
    assert found.dtype == np.float32
    assert_equal_enough(found, slow_activations(model, PROMPTS, hook, position))
    assert np.ptp(found, axis=0).max() > 0 or (hook, position) == ("resid_pre", "last")


@pytest.mark.parametrize("position", PROMPT_POSITIONS)
@pytest.mark.parametrize("hook", HOOKS)
def test_batches_padding_shared_prefixes_and_order_change_nothing(chat: Any, hook: str, position: str) -> None:
    expected = activations(chat, PROMPTS, hook, position=position, batch_size=1)
    for batch_size in (2, 4, 16):
        assert_equal_enough(activations(chat, PROMPTS, hook, position=position, batch_size=batch_size), expected)
    for order in (range(len(PROMPTS))[::-1], [3, 0, 3, 5]):
        found = activations(chat, [PROMPTS[i] for i in order], hook, position=position, batch_size=3)
        assert_equal_enough(found, expected[list(order)])


@pytest.mark.parametrize("position", PROMPT_POSITIONS)
def test_the_whole_stream_is_the_embeddings_and_then_what_each_block_leaves(model: Any, position: str) -> None:
    before, after = (activations(model, PROMPTS, hook, position=position) for hook in ("resid_pre", "resid_post"))
    found = activations(model, PROMPTS, "stream", position=position)
    np.testing.assert_array_equal(found, np.concatenate([before[:, :1], after], axis=1))
    with pytest.raises(InputError, match="no layers to choose"):
        activations(model, PROMPTS, "stream", layers=[0])


def test_the_residual_stream_after_a_block_is_that_before_the_next(chat: Any) -> None:
    for position in PROMPT_POSITIONS:
        before, after = (activations(chat, PROMPTS, hook, position=position) for hook in ("resid_pre", "resid_post"))
        np.testing.assert_array_equal(after[:, :-1], before[:, 1:])


def test_layers_come_out_in_ascending_order_and_are_those_of_all_layers(chat: Any) -> None:
    whole = activations(chat, PROMPTS, "z")
    assert whole.shape == (len(PROMPTS), 3, 4, 16)
    np.testing.assert_array_equal(activations(chat, PROMPTS, "z", layers=[2, 0]), whole[:, [0, 2]])


def test_of_pairs_and_examples_the_conversation_alone_is_read(chat: Any) -> None:
    pairs = load_pairs("sycophancy", "medical", "test", phrasings=1)[:3]
    expected = activations(chat, [pair.messages for pair in pairs])
    np.testing.assert_array_equal(activations(chat, pairs), expected)
    np.testing.assert_array_equal(activations(chat, [pair.as_example("matching") for pair in pairs]), expected)


def one_run(model: Any, text: str, hook: str, first: int, end: int) -> np.ndarray:
    """Means over the tokens that overlap characters `first` to `end` of a text, which is run alone."""
    tokenizer = model_info(model).tokenizer
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    chosen = [i for i, (a, b) in enumerate(coded.offset_mapping) if a < end and b > first]
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([coded.input_ids]))
    return np.array([cache[HOOKS[hook].format(k)][0, chosen].double().numpy().mean(axis=0) for k in range(3)])


@pytest.mark.parametrize("hook", HOOKS)
def test_a_claim_is_the_mean_over_its_own_tokens(chat: Any, hook: str) -> None:
    pairs = load_pairs("sycophancy", "medical", "test", phrasings=2)[::9]
    found = activations(chat, pairs, hook, position="claim", batch_size=3)
    for row, pair in zip(found, pairs, strict=True):
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in pair.messages)
        start = text.index(str(pair.claim))
        assert_equal_enough(row, one_run(chat, text, hook, start, start + len(str(pair.claim))))


@pytest.mark.parametrize("hook", HOOKS)
def test_a_response_is_the_mean_over_its_tokens_without_the_end_of_turn(chat: Any, hook: str) -> None:
    examples = [p.as_example("matching") for p in load_pairs("sycophancy", "medical", "test", phrasings=2)[::9]]
    found = activations(chat, examples, hook, position="response", batch_size=3)
    for row, example in zip(found, examples, strict=True):
        before = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in example.messages)
        text = f"{before}<|im_start|>assistant\n{example.response}"
        assert_equal_enough(row, one_run(chat, text, hook, len(text) - len(example.response), len(text)))


def test_a_position_that_a_prompt_does_not_have_is_an_error(chat: Any) -> None:
    pair = load_pairs("sycophancy", "medical", "test", phrasings=1)[0]
    for prompts in ([pair], [pair.messages]):
        with pytest.raises(InputError, match="only examples have a response"):
            activations(chat, prompts, position="response")
    for prompts in ([replace(pair, claim=None)], [pair.messages], [pair.as_example("matching")]):
        with pytest.raises(InputError, match="where its claim is"):
            activations(chat, prompts, position="claim")


@pytest.mark.parametrize("hook", HOOKS)
def test_gates_that_are_attached_are_measured_with(chat: Any, shaken: Callable[..., GateSet], hook: str) -> None:
    gates = shaken(GateSet.identity(chat))
    base = activations(chat, PROMPTS, hook)
    with gates.attached(chat, -1.0):
        gated = activations(chat, PROMPTS, hook, layers=[1])
        assert_equal_enough(gated, slow_activations(chat, PROMPTS, hook, "last", layers=[1]))
    assert np.abs(gated - base[:, 1:2]).max() > 0.01
    with gates.attached(chat, 0.0):
        np.testing.assert_array_equal(activations(chat, PROMPTS, hook), base)
    np.testing.assert_array_equal(activations(chat, PROMPTS, hook), base)


def test_a_number_that_overflows_at_one_token_stays_there(chat: Any) -> None:
    first = HOOKS["resid_post"].format(2)

    def overflow(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        value[:, 0] = float("inf")
        return value

    expected = activations(chat, [PROMPTS[4]])
    with hooking.attached(chat, {first: overflow}):
        np.testing.assert_array_equal(activations(chat, [PROMPTS[4]]), expected)
        assert not np.isfinite(activations(chat, [PROMPTS[4]], position="mean")[:, 2]).any()


def test_half_precision_models_give_the_numbers_they_hold(tmp_path: Path, tiny_chat_model: Callable[..., Any]) -> None:
    model = tiny_chat_model(tmp_path / "model")
    exact = activations(model, PROMPTS)
    model.original_model.to(torch.bfloat16)
    found = activations(model, PROMPTS, batch_size=1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, slow_activations(model, PROMPTS, "resid_post", "last"))
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_logits_are_not_computed(chat: Any) -> None:
    with hooking.attached(chat, {"unembed.hook_in": lambda _: None}, must_fire=False) as firings:
        activations(chat, PROMPTS)
    assert firings.silent() == ["unembed.hook_in"]


def test_a_row_without_answers_is_its_prompt(chat: Any) -> None:
    row = encode(chat, PROMPTS[0], [])
    assert (row.answers, len(row), row.longest) == ((), len(row.prompt), len(row.prompt))
    assert row.prompt == encode(chat, PROMPTS[0], ["Yes."]).prompt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(prompts=[]), "nothing to measure"),
        (dict(hook="resid_mid"), "hook is not one of"),
        (dict(position="first"), "position is not one of"),
        (dict(layers=[3]), "layers must be"),
        (dict(layers=[]), "layers must be"),
        (dict(batch_size=0), "batch_size must be positive"),
    ],
)
def test_bad_input_is_refused(chat: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        activations(**(dict(model=chat, prompts=PROMPTS) | change))


def test_a_prompt_that_is_too_long_and_a_model_without_a_tokenizer_are_refused(chat: Any) -> None:
    with pytest.raises(DataError, match="longer than the model's context"):
        activations(chat, [asked("word " * 300)])
    with pytest.raises(ModelError, match="without a tokenizer"):
        activations(tiny_model(), PROMPTS)


@pytest.mark.model
@pytest.mark.parametrize("position", PROMPT_POSITIONS)
def test_on_the_default_model_batches_and_shared_prefixes_change_nothing(default_model: Any, position: str) -> None:
    pairs: list[Pair] = load_pairs("sycophancy", "medical", "test", phrasings=1)[:6]
    together = activations(default_model, pairs, position=position)
    alone = activations(default_model, pairs, position=position, batch_size=1)
    for layer in range(together.shape[1]):
        assert_equal_enough(together[:, layer], alone[:, layer])
