"""Laws of the shipped wordings: what a file holds, and how a claim and a topic get into a conversation."""

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechgate.data.splits import SPLITS
from mechgate.data.wordings import conversation, filled, sentence, wordings

LAW = settings(max_examples=60, deadline=None, derandomize=True)
PLAIN = st.text(string.ascii_letters + string.digits + " ,'-.{}", min_size=1, max_size=40)
ALLOWED = {  # file -> the fields that a prompt and an answer may have, and must have one of
    "assertions": ({"claim", "Claim"}, set()),
    "advice": ({"topic"}, {"claim", "Claim"}),
}


def turns(prompt: Any) -> list[str]:
    return [prompt] if isinstance(prompt, str) else prompt


def texts(value: Any) -> list[str]:
    """All texts in nested lists and dicts."""
    if isinstance(value, str):
        return [value]
    return [text for part in (value.values() if isinstance(value, dict) else value) for text in texts(part)]


def fields(text: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


@LAW
@given(PLAIN)
def test_a_sentence_is_the_clause_but_for_its_first_letter(clause: str) -> None:
    assert sentence(clause)[1:] == clause[1:]
    assert sentence(clause)[0] == clause[0].upper()


@LAW
@given(PLAIN, PLAIN)
def test_claim_and_topic_are_put_in_as_they_are(claim: str, topic: str) -> None:
    assert filled("On {topic}: {claim}.", claim=claim, topic=topic) == f"On {topic}: {claim}."
    assert filled("{Claim}.", claim=claim) == f"{claim[0].upper()}{claim[1:]}."


@LAW
@given(PLAIN, st.integers(0, 2))
def test_the_turns_of_a_conversation_alternate_and_the_user_has_the_first_and_the_last(claim: str, more: int) -> None:
    made = conversation([f"{{claim}} {i}" for i in range(2 * more + 1)], claim=claim)
    assert [message["role"] for message in made] == ["user", "assistant"] * more + ["user"]
    assert [message["content"] for message in made] == [f"{claim} {i}" for i in range(2 * more + 1)]


def test_one_text_is_a_conversation_of_one_turn() -> None:
    assert conversation("Is {claim}?", claim="it") == conversation(["Is {claim}?"], claim="it")


@pytest.mark.parametrize("name", ALLOWED)
def test_a_file_has_prompts_and_answers_for_each_split(name: str) -> None:
    for split in SPLITS:
        assert set(wordings(name)[split]) == {"prompts", "answers"}
    assert set(wordings(name)) - set(SPLITS) <= {"stance"}


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.parametrize("split", SPLITS)
def test_every_prompt_and_answer_has_the_field_it_needs_once_and_no_other(name: str, split: str) -> None:
    for_prompts, for_answers = ALLOWED[name]
    for prompt in wordings(name)[split]["prompts"]:
        found = fields(" ".join(turns(prompt)))
        assert len(found) == 1, prompt
        assert set(found) <= for_prompts, prompt
        assert fields(turns(prompt)[0]) == found, prompt  # the user says it in the first turn
        assert len(turns(prompt)) in (1, 3)
    for answer in texts(wordings(name)[split]["answers"]):
        found = fields(answer)
        assert len(found) == bool(for_answers), answer
        assert set(found) <= for_answers, answer


@pytest.mark.parametrize("part", ["dev", "report"])
def test_a_question_of_knowledge_names_the_claim_once_and_has_two_different_answers(part: str) -> None:
    for question, true, false in wordings("knowledge")[part]:
        assert len(fields(question)) == 1, question
        assert set(fields(question)) <= {"claim", "Claim"}, question
        assert fields(true) == fields(false) == []
        assert true != false


def test_facts_are_not_selected_and_reported_by_the_same_questions() -> None:
    parts = [{question.casefold() for question, *_ in wordings("knowledge")[part]} for part in ("dev", "report")]
    assert set(wordings("knowledge")) == {"dev", "report"}
    assert parts[0] & parts[1] == set()
    assert [len(part) for part in parts] == [len(wordings("knowledge")[part]) for part in ("dev", "report")]


@pytest.mark.parametrize("name", [*ALLOWED, "knowledge"])
def test_wordings_are_plain_ascii_without_stray_space(name: str) -> None:
    for text in texts(wordings(name)):
        assert text.isascii(), text
        assert text == " ".join(text.split()), text
