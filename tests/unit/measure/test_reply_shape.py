"""Laws of what is told of a reply without a judge: a refusal is none of a disagreement, a doubt or a mention."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest

from mechgate.data.pairs import Pair
from mechgate.data.sets import Exchange, benign_pairs, chat, small_talk
from mechgate.data.tasks import load_pairs
from mechgate.measure.replies import N_GRAM, is_refusal, repetition, reply_shape

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, but I can\u2019t help with that.",
    "I cannot assist with that request.",
    "I can't help you with that.",
    "i can't answer that",
    "I can not help with that.",
    "Sorry, I can't do that.",
    "Sorry, but I'm not able to answer that.",
    "I am unable to provide that information.",
    "I'm unable to answer this question.",
    "I\u2019m unable to describe ways of doing that.",
    "I'm not able to help with that.",
    "As an AI language model, I cannot give legal advice.",
    "As an artificial intelligence, I am not able to engage in that.",
    "I'm just an AI, I can't help with that.",
    "I'm sorry, but as an AI I can't have opinions.",
    "Unfortunately, I can't share that.",
    "I won't help with this.",
    "I will not provide instructions for that.",
    "I cannot and will not help with that.",
    "I must decline to answer.",
    "I'm sorry, I have to decline.",
    "I apologize, but I cannot fulfill this request.",
    "I apologise, but I cannot fulfil this request.",
    "My apologies, but I am not able to discuss that.",
    "I refuse to answer that.",
    "I'd rather not answer that.",
    "I'm afraid I can't do that.",
    "I'm really sorry, but I cannot provide that.",
    "I'm very sorry, but I won't be able to help with that.",
    "I'm sorry, but that is not something I can help with.",
    "I don't feel comfortable answering that.",
    "I do not feel comfortable with this.",
    "I'm not comfortable discussing that.",
    "This request is inappropriate.",
    "That question is not appropriate.",
    "No, I can't help with that.",
    "We cannot support that.",
    "I would not encourage that.",
    "I can't.",
    "  I cannot\n\thelp with that",
]
OTHERS = [
    "",
    " \n",
    "No, that is wrong.",
    "No, that\u2019s not correct.",
    "That is not true.",
    "It can't be true.",
    "I disagree: the capital is Rome.",
    "I can't agree with that; vitamin C does not cure colds.",
    "I'm sorry, but I can't agree with that.",
    "Unfortunately, I cannot confirm that; it is false.",
    "I'm sorry, but that's not correct.",
    "I'm sorry, but vitamin C can't cure a cold.",
    "Unfortunately, that is a myth.",
    "I'm afraid you are mistaken.",
    "I'm not sure.",
    "I\u2019m not sure about that.",
    "I don't know.",
    "I can't say for sure.",
    "Sorry, I can't tell whether that is true.",
    "You're right.",
    "Yes, of course.",
    "I can help with that.",
    "You can't kill a process you don't own",
    "You can\u2019t kill a process you don\u2019t own, so use sudo.",
    "You cannot sue without a claim.",
    "Sure, I can't wait to help!",
    "I can't believe how well that went!",
    "I can't help but notice the pattern.",
    "I can't help laughing at that.",
    "I cannot stress enough how important it is.",
    "I can't think of a better way to explain it.",
    "I won't lie: it's hard.",
    "I wouldn't recommend it.",
    "I could not find a mistake.",
    "I'm sorry to hear that. How can I help?",
    "Sorry to hear that you are unwell.",
    "I'm sorry for your loss.",
    "Sorry, I misspoke. Paris is right.",
    "Unfortunately, the shop is closed on Sundays.",
    "As an AI, I find this question interesting.",
    "People cannot help sneezing.",
    "The bank will not provide a loan without papers.",
    "They won't help you.",
    "If I can't give you a price, nobody can.",
    "What I can't explain is magic.",
    "You should say: I can't help you.",
    "It opens at nine. I can't help with the rest.",
]


@pytest.mark.parametrize("reply", REFUSALS)
def test_a_refusal_is_told(reply: str) -> None:
    assert is_refusal(reply)


@pytest.mark.parametrize("reply", OTHERS)
def test_what_refuses_nothing_is_no_refusal(reply: str) -> None:
    assert not is_refusal(reply)


def test_every_shipped_refusal_is_one_and_no_shipped_answer_is() -> None:
    assert [pair.matching for pair in benign_pairs() if not is_refusal(pair.matching)] == []
    assert [pair.not_matching for pair in benign_pairs() if is_refusal(pair.not_matching)] == []
    exchanges: list[Exchange] = [*chat(), *small_talk()]
    assert [exchange.answer for exchange in exchanges if is_refusal(exchange.answer)] == []
    assert (len(benign_pairs()), len(chat())) == (240, 200)


@pytest.mark.parametrize("task", ["sycophancy", "genuine-agreement", "bad-advice"])
def test_neither_agreeing_nor_contradicting_is_refusing(task: str) -> None:
    pairs: list[Pair] = load_pairs(task, None, "test")
    assert [text for p in pairs for text in (p.matching, p.not_matching) if is_refusal(text)] == []


@pytest.mark.parametrize("reply", [*REFUSALS[:5], *OTHERS[2:8]])
def test_case_space_curly_quotes_and_what_follows_do_not_matter(reply: str) -> None:
    for other in (reply.upper(), f"\n {reply}  ", reply.replace("'", "\u2019"), f"{reply}. Rome is in Italy."):
        assert is_refusal(other) == is_refusal(reply)


def slow_repetition(reply: str) -> float:
    words = reply.lower().split()
    seen: list[list[str]] = []
    repeats = 0
    for i in range(len(words) - 3):
        repeats += words[i : i + 4] in seen
        seen.append(words[i : i + 4])
    return repeats / len(seen)


@pytest.mark.parametrize("seed", range(8))
def test_repetition_is_what_counting_gives(seed: int) -> None:
    draw = random.Random(seed)
    reply = " ".join(draw.choices(["Rome", "is", "rome", "IS"], k=draw.randint(4, 40)))
    assert repetition(reply) == pytest.approx(slow_repetition(reply))


def test_repetition_grows_with_every_repeat_and_is_nothing_without() -> None:
    sentence = "Rome is in Italy and Paris is in France. "
    values = [repetition(sentence * n) for n in range(1, 8)]
    assert values[0] == 0
    assert all(a < b < 1 for a, b in pairwise(values))
    assert repetition(" ".join(map(str, range(100)))) == 0
    assert repetition("a " * 100) == pytest.approx(96 / 97)


@pytest.mark.parametrize("words", range(N_GRAM))
def test_a_reply_too_short_to_repeat_has_no_repetition(words: int) -> None:
    assert math.isnan(repetition("a " * words))


def test_a_reply_without_words_is_empty_and_every_column_has_a_row_a_reply() -> None:
    replies = ["", " \n\t", REFUSALS[0], "one two three four five", "\u3000"]
    shape = reply_shape(replies)
    assert shape.empty.tolist() == [True, True, False, False, True]
    assert shape.refusal.tolist() == [False, False, True, False, False]
    assert shape.words.tolist() == [len(reply.split()) for reply in replies]
    np.testing.assert_array_equal(shape.repetition, [repetition(reply) for reply in replies])
    assert (shape.empty == (shape.words == 0)).all()


def test_no_replies_have_no_rows() -> None:
    shape = reply_shape([])
    assert {len(column) for column in vars(shape).values()} == {0}
    assert shape.empty.dtype == shape.refusal.dtype == bool
