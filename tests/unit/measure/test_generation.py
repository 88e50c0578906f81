"""Laws of free generation: what one obvious loop over full forward passes says, whatever is generated with it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mechgate.data.pairs import Message
from mechgate.data.tasks import load_pairs
from mechgate.errors import DataError, InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.generation import generate
from mechgate.model.loading import model_info
from mechgate.model.prompts import prompt_ids
from mechgate.testing import ARCHITECTURES

USER = {"role": "user", "content": "Is the capital of Italy Rome?"}
SYSTEM = {"role": "system", "content": "You are a helpful doctor."}
PROMPTS: list[Sequence[Message]] = [
    (USER,),
    (SYSTEM, USER, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And vitamin C?"}),
    ({"role": "user", "content": "Hm?"},),
    (SYSTEM, USER),
]


def slow_reply(model: Any, messages: Sequence[Message], new: int, stops: Sequence[int] = (2,)) -> str:
    """The greedy reply, every token from a forward pass over all tokens before it."""
    ids = list(prompt_ids(model, messages))
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + new and not (len(ids) > start and ids[-1] in stops):
            ids.append(int(model.original_model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return model_info(model).tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def first_token_distribution(model: Any, messages: Sequence[Message], temperature: float) -> dict[str, float]:
    """Probability of every one-token reply, by its text (ids with the same text count together)."""
    with torch.no_grad():
        logits = model.original_model(input_ids=torch.tensor([prompt_ids(model, messages)])).logits[0, -1].double()
    chances: dict[str, float] = {}
    for token, chance in enumerate((logits / temperature).softmax(-1).tolist()):
        text = model_info(model).tokenizer.decode([token], skip_special_tokens=True).strip()
        chances[text] = chances.get(text, 0) + chance
    return chances


def p_value(replies: list[str], chances: dict[str, float]) -> float:
    """The chi-square test of `replies` against `chances`; texts expected less than 5 times are one class."""
    counts = {text: replies.count(text) for text in set(replies)}
    assert set(counts) <= set(chances)
    common = [text for text, chance in chances.items() if chance * len(replies) >= 5]
    observed = np.array([counts.get(text, 0) for text in common], dtype=float)
    expected = np.array([chances[text] for text in common]) * len(replies)
    observed, expected = np.append(observed, len(replies) - observed.sum()), np.append(expected, 0)
    expected[-1] = len(replies) - expected.sum()
    assert len(common) >= 5
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]
) -> Any:
    """A tiny chat model of each architecture in turn; leave it as it was."""
    # Tied to its embeddings, a tiny random model likes best to repeat the last token of the prompt, which is no reply.
    return tiny_chat_model(tmp_path_factory.mktemp("model"), request.param, tie_word_embeddings=False)


@pytest.mark.parametrize("gated", [False, True], ids=["base", "gated"])
def test_greedy_replies_are_those_of_the_slow_loop(model: Any, gated: bool, shaken: Callable[..., GateSet]) -> None:
    gates = shaken(GateSet.identity(model))
    where: AbstractContextManager[Any] = gates.attached(model) if gated else nullcontext()
    with where:
        replies = generate(model, PROMPTS, max_new_tokens=12)
        assert replies == [slow_reply(model, messages, 12) for messages in PROMPTS]
    assert all(replies)


def test_gates_change_the_replies_and_only_while_they_are_attached(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates, base = shaken(GateSet.identity(chat)), generate(chat, PROMPTS, max_new_tokens=12)
    with gates.attached(chat):
        assert all(one != other for one, other in zip(generate(chat, PROMPTS, max_new_tokens=12), base, strict=True))
    with gates.attached(chat, 0.0):
        assert generate(chat, PROMPTS, max_new_tokens=12) == base
    assert generate(chat, PROMPTS, max_new_tokens=12) == base


@pytest.mark.parametrize("settings", [dict(), dict(temperature=0.8, seed=3)], ids=["greedy", "sampled"])
def test_replies_do_not_depend_on_the_batch_size(chat: Any, settings: dict[str, Any]) -> None:
    together = generate(chat, PROMPTS, max_new_tokens=12, **settings)
    for batch_size in (1, 2, 3):
        assert generate(chat, PROMPTS, max_new_tokens=12, batch_size=batch_size, **settings) == together


def test_a_pair_is_asked_as_its_conversation(chat: Any) -> None:
    pairs = load_pairs("sycophancy", "medical", "test", phrasings=1)[:3]
    assert generate(chat, pairs, max_new_tokens=8) == generate(chat, [p.messages for p in pairs], max_new_tokens=8)


def test_replies_hold_neither_the_prompt_nor_special_tokens(chat: Any) -> None:
    for reply in generate(chat, PROMPTS, max_new_tokens=20) + generate(
        chat, PROMPTS, max_new_tokens=20, temperature=1.0, seed=0
    ):
        assert reply == reply.strip() != ""
        for word in ("Italy Rome?", "helpful doctor", "assistant\n", "<|im_start|>", "<|im_end|>", "<|endoftext|>"):
            assert word not in reply


def test_a_reply_ends_at_any_end_token_of_the_model_and_at_the_longest_length(
    tmp_path: Path, tiny_chat_model: Callable[..., Any]
) -> None:
    model = tiny_chat_model(tmp_path)
    free = slow_reply(model, PROMPTS[0], 12)
    tokenizer = model_info(model).tokenizer
    stop = int(tokenizer(free, add_special_tokens=False).input_ids[4])
    model.original_model.generation_config.eos_token_id = [2, stop]
    ended = generate(model, PROMPTS, max_new_tokens=12)
    assert ended == [slow_reply(model, messages, 12, (2, stop)) for messages in PROMPTS]
    assert len(ended[0]) < len(free)
    assert generate(model, PROMPTS, max_new_tokens=1) == [slow_reply(model, messages, 1) for messages in PROMPTS]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generation_settings_that_come_with_a_model_do_not_count(
    tmp_path: Path, tiny_chat_model: Callable[..., Any], temperature: float
) -> None:
    model = tiny_chat_model(tmp_path)
    settings = dict(max_new_tokens=12, temperature=temperature, seed=0)
    expected = generate(model, PROMPTS, **settings)
    own = model.original_model.generation_config
    own.update(
        do_sample=True,
        temperature=3.0,
        top_k=2,
        top_p=0.5,
        repetition_penalty=3.0,
        no_repeat_ngram_size=1,
        min_new_tokens=3,
        suppress_tokens=[50, 60, 70],
        num_return_sequences=2,
    )
    before = own.to_dict()
    assert generate(model, PROMPTS, **settings) == expected
    assert model.original_model.generation_config.to_dict() == before


def test_sampling_is_a_function_of_the_seed(chat: Any) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = generate(chat, PROMPTS, max_new_tokens=12, temperature=1.0, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert generate(chat, PROMPTS, max_new_tokens=12, temperature=1.0, seed=0) == first
    other = generate(chat, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1)
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_what_is_drawn_for_a_prompt_does_not_depend_on_the_other_prompts(chat: Any) -> None:
    first = generate(chat, PROMPTS, max_new_tokens=12, temperature=1.0, seed=0)
    others = generate(chat, [PROMPTS[2], PROMPTS[1], PROMPTS[1]], max_new_tokens=12, temperature=1.0, seed=0)
    assert others[1] == first[1]
    assert others[2] != others[1]  # a prompt asked twice is answered twice


def test_at_a_low_temperature_sampling_is_greedy(chat: Any) -> None:
    greedy = generate(chat, PROMPTS, max_new_tokens=12)
    assert generate(chat, PROMPTS, max_new_tokens=12, temperature=1e-5, seed=0) == greedy
    assert generate(chat, PROMPTS, max_new_tokens=12, temperature=2.0, seed=0) != greedy


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_tokens_are_drawn_as_often_as_their_probability_says(chat: Any, temperature: float) -> None:
    replies = generate(chat, [PROMPTS[2]] * 2000, max_new_tokens=1, temperature=temperature, seed=0, batch_size=500)
    assert p_value(replies, first_token_distribution(chat, PROMPTS[2], temperature)) > 0.01
    assert p_value(replies, first_token_distribution(chat, PROMPTS[2], temperature * 1.3)) < 1e-3
    assert p_value(replies, first_token_distribution(chat, PROMPTS[0], temperature)) < 1e-4


def test_later_tokens_are_drawn_anew(chat: Any) -> None:
    replies = generate(chat, [PROMPTS[2]] * 20, max_new_tokens=30, temperature=50.0, seed=0)
    assert len(set(replies)) == 20
    assert len(set("".join(replies))) > 50


def test_no_prompts_have_no_replies(chat: Any) -> None:
    assert generate(chat, []) == []


def test_sampling_without_a_seed_is_refused(chat: Any) -> None:
    with pytest.raises(InputError, match=r"sampling needs a seed.*seed=0, or temperature=0"):
        generate(chat, PROMPTS, temperature=0.7)


@pytest.mark.parametrize(
    "settings",
    [
        dict(max_new_tokens=0),
        dict(max_new_tokens=-1),
        dict(temperature=-0.1),
        dict(temperature=float("inf")),
        dict(temperature=float("nan")),
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused(chat: Any, settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=rf"unusable generation settings.*{name}={value}"):
        generate(chat, PROMPTS, seed=0, **settings)


def test_a_reply_that_would_not_fit_the_context_is_refused_before_anything_is_generated(
    chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 256 - len(prompt_ids(chat, PROMPTS[1]))
    monkeypatch.setattr(chat.original_model, "generate", None)
    with pytest.raises(DataError, match=r"longer than the model's context.*257 tokens.*at most 256"):
        generate(chat, PROMPTS, max_new_tokens=room + 1)


def test_a_reply_may_fill_the_context(chat: Any) -> None:
    messages = ({"role": "user", "content": "z" * 200},)
    room = 256 - len(prompt_ids(chat, messages))
    assert 0 < room < 60
    assert generate(chat, [messages], max_new_tokens=room) == [slow_reply(chat, messages, room)]
