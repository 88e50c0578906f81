"""Laws of the two records everything is made of."""

import dataclasses
from typing import Any

import pytest

from mechgate.data.pairs import Example, Pair, data_hash
from mechgate.errors import DataError, InputError

USER = {"role": "user", "content": "Is the capital of Italy Rome?"}
CHAT = ({"role": "system", "content": "Be short."}, USER, {"role": "assistant", "content": "Yes."}, USER)


def pair(**changes: Any) -> Pair:
    fields = dict(
        id="p1",
        domain="medical",
        messages=(USER,),
        matching="Yes.",
        not_matching="No.",
        fact_id="f1",
        kind="false_claim",
    )
    return Pair(**(fields | changes))


def test_a_pair_gives_the_training_example_of_either_answer() -> None:
    made = pair(messages=CHAT)
    assert made.as_example("matching") == Example(messages=CHAT, response="Yes.")
    assert made.as_example("not_matching") == Example(messages=CHAT, response="No.")


def test_an_answer_that_a_pair_does_not_have_is_refused_by_near_miss() -> None:
    with pytest.raises(InputError, match=r"answer.*'matchin'.*matching, not_matching.*did you mean 'matching'"):
        pair().as_example("matchin")  # type: ignore[arg-type]


def test_records_cannot_be_changed() -> None:
    for record in (pair(), Example(messages=(USER,), response="Yes.")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.messages = ()  # type: ignore[misc]


def test_records_take_keywords_only() -> None:
    with pytest.raises(TypeError):
        Example((USER,), "Yes.")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ((), "has no messages"),
        (({"role": "user"},), r"malformed message.*role.*role and content, both strings"),
        (({"role": "user", "content": "a", "name": "b"},), r"malformed message.*content, name, role|malformed message"),
        (({"role": "user", "content": None},), "malformed message"),
        (({"role": "user", "content": ["a"]},), "malformed message"),
        (({"role": "doctor", "content": "a"},), r"unknown role.*'doctor'.*system, user, assistant"),
        (({"role": None, "content": "a"},), r"unknown role.*None"),
        ((USER, {"role": "assistant", "content": "a"}), r"must end with the user's turn.*assistant.*in response"),
        (({"role": "system", "content": "a"},), r"must end with the user's turn.*system"),
    ],
)
def test_messages_that_are_no_conversation_are_refused_naming_the_record(
    messages: tuple[dict[str, Any], ...], words: str
) -> None:
    with pytest.raises(DataError, match=rf"pair p1 .*{words}|pair p1 {words}"):
        pair(messages=messages)
    with pytest.raises(DataError, match=rf"an example .*{words}|an example {words}"):
        Example(messages=messages, response="Yes.")


@pytest.mark.parametrize("answer", ["", "  ", "\n\t"])
@pytest.mark.parametrize("field", ["matching", "not_matching"])
def test_an_empty_answer_is_refused_naming_pair_and_field(field: str, answer: str) -> None:
    with pytest.raises(DataError, match=rf"pair p1 has an empty answer.*{field}"):
        pair(**{field: answer})


@pytest.mark.parametrize("response", ["", " \n"])
def test_an_empty_response_is_refused_quoting_the_question(response: str) -> None:
    with pytest.raises(DataError, match=r"empty response.*capital of Italy"):
        Example(messages=(USER,), response=response)


def test_the_hash_of_data_depends_on_everything_trained_on_and_its_order() -> None:
    a, b = Example(messages=(USER,), response="Yes."), Example(messages=CHAT, response="Yes.")
    variants = [
        [],
        [a],
        [b],
        [a, b],
        [b, a],
        [a, a],
        [dataclasses.replace(a, response="No.")],
        [dataclasses.replace(a, messages=({**USER, "content": "Is it?"},))],
    ]
    assert len({data_hash(examples) for examples in variants}) == len(variants)
    same = Example(messages=({"content": USER["content"], "role": "user"},), response="Yes.")
    assert data_hash([same]) == data_hash([a])


def test_a_claim_adds_nothing_to_what_is_trained_on() -> None:
    with_claim = pair(claim="the capital of Italy Rome")
    for answer in ("matching", "not_matching"):
        assert with_claim.as_example(answer) == pair().as_example(answer)
