"""Laws of the tasks: which pairs there are, in which order, and that training never sees what testing uses."""

import itertools
import string
from dataclasses import replace
from typing import Any

import pytest

from mechgate.data import tasks
from mechgate.data.claims import ANSWERS, ASSERTED, UNASKED
from mechgate.data.controls import CONTROLS
from mechgate.data.facts import domains, load_facts, split_facts
from mechgate.data.marked import MARKED
from mechgate.data.pairs import Pair
from mechgate.data.sets import chat
from mechgate.data.splits import SPLITS, split_ids
from mechgate.data.tasks import TASKS, dataset_hashes, kept_examples, load_pairs, shipped_data_hash, stance_answers
from mechgate.data.wordings import sentence
from mechgate.data.wordings import wordings as shipped
from mechgate.errors import InputError
from mechgate.provenance import stable_hash

WORDINGS: dict[str, Any] = shipped("assertions")
# Most laws here are about the tasks in which the user asserts a claim.
TASK, SPLIT = pytest.mark.parametrize("task", ASSERTED), pytest.mark.parametrize("split", SPLITS)
ANY_TASK = pytest.mark.parametrize("task", TASKS)
OF_FACTS = (*ASSERTED, *UNASKED)
# What the user asserts and agreement restates, and what disagreement states instead.
CLAUSES = {"sycophancy": ("false_claim", "correction"), "genuine-agreement": ("true_claim", "false_counterpart")}

STATEMENTS = {"false_claim", "correction", "true_claim", "false_counterpart"}
STANCES = [*WORDINGS["stance"], *(both for split in SPLITS for both in WORDINGS[split]["answers"])]


def fact_of(pair: Pair) -> Any:
    return next(fact for fact in load_facts(pair.domain) if fact.id == pair.fact_id)


def folded(text: str) -> str:
    """Letters only, lower-case: wordings that differ in less are the same wording."""
    return " ".join(text.casefold().translate(str.maketrans("", "", string.punctuation)).split())


def wordings(part: str, which: str) -> list[str]:
    """All prompt templates (a conversation's turns in one), or all answers, of train, dev, test or stance."""
    if part == "stance":
        return [] if which == "prompts" else [text for both in WORDINGS["stance"] for text in both]
    found = WORDINGS[part][which]
    if which == "prompts":
        return [text if isinstance(text, str) else " ".join(text) for text in found]
    return [text for both in found for text in both]


def test_the_tasks_are_those_of_facts_of_marked_claims_of_broad_and_benign_prompts_and_the_controls() -> None:
    assert sorted(TASKS) == sorted([*OF_FACTS, *MARKED, "broad", "over-refusal", *CONTROLS])


@ANY_TASK
@pytest.mark.parametrize("split", [*SPLITS, "all"])
def test_loading_twice_gives_the_same_pairs_in_the_same_order(task: str, split: str) -> None:
    assert load_pairs(task, split=split) == load_pairs(task, split=split)


@TASK
def test_there_are_at_least_160_medical_pairs_to_train_on(task: str) -> None:
    assert len(load_pairs(task, "medical")) >= 160


@TASK
@SPLIT
@pytest.mark.parametrize("domain", [None, *domains()])
def test_every_round_of_phrasings_holds_each_fact_of_the_split_once(task: str, split: str, domain: str | None) -> None:
    pairs = load_pairs(task, domain, split)
    names = domains() if domain is None else [domain]
    ids = sorted(fact.id for name in names for fact in split_facts(name, split))
    rounds = [pairs[start : start + len(ids)] for start in range(0, len(pairs), len(ids))]
    assert len(rounds) == len(WORDINGS[split]["prompts"])
    for found in rounds:
        assert sorted(pair.fact_id for pair in found) == ids


@TASK
@SPLIT
def test_a_fact_is_asserted_in_every_wording_of_its_split_once(task: str, split: str) -> None:
    pairs = load_pairs(task, split=split)
    for _, found in itertools.groupby(sorted(pairs, key=lambda p: p.fact_id), key=lambda p: p.fact_id):
        templates = [pair.template for pair in found]
        assert len(set(templates)) == len(templates) == len(WORDINGS[split]["prompts"])


@TASK
@SPLIT
def test_neighbours_are_worded_differently(task: str, split: str) -> None:
    for one, other in itertools.pairwise(load_pairs(task, "medical", split, phrasings=1)):
        assert one.template != other.template
        assert one.matching != other.matching


@TASK
@SPLIT
def test_fewer_phrasings_are_the_beginning_of_all(task: str, split: str) -> None:
    whole = load_pairs(task, "science", split)
    for n in range(1, len(WORDINGS[split]["prompts"]) + 1):
        part = load_pairs(task, "science", split, phrasings=n)
        assert part == whole[: len(part)]
        assert len(part) == n * len(split_facts("science", split))


def test_no_two_pairs_have_the_same_id() -> None:
    ids = [p.id for task in OF_FACTS for f in SPLITS for w in SPLITS for p in load_pairs(task, split=f, templates=w)]
    ids += [p.id for task in TASKS if task not in OF_FACTS for split in SPLITS for p in load_pairs(task, split=split)]
    assert len(set(ids)) == len(ids)


@ANY_TASK
def test_all_is_every_fact_or_item_of_the_three_splits_and_nothing_else(task: str) -> None:
    apart = {pair.fact_id for split in SPLITS for pair in load_pairs(task, split=split)}
    whole = load_pairs(task, split="all")
    assert {pair.fact_id for pair in whole} == apart
    assert len({pair.id for pair in whole}) == len(whole)


@pytest.mark.parametrize("task", [*OF_FACTS, *MARKED, "shuffled"])
def test_all_facts_come_in_the_test_wordings(task: str) -> None:
    assert {p.template for p in load_pairs(task, split="all")} == {p.template for p in load_pairs(task, split="test")}


@ANY_TASK
def test_the_two_answers_of_a_pair_differ(task: str) -> None:
    assert [pair.id for pair in load_pairs(task, split="all") if pair.matching == pair.not_matching] == []


@ANY_TASK
def test_no_item_is_in_two_splits(task: str) -> None:
    parts = [{pair.fact_id for pair in load_pairs(task, split=split)} for split in SPLITS]
    for one, other in itertools.combinations(parts, 2):
        assert one
        assert one & other == set()


@pytest.mark.parametrize("domain", ["medical", None])
def test_what_is_kept_has_both_answers_to_every_true_claim_and_neutral_chat_and_nothing_of_test(
    domain: str | None,
) -> None:
    kept, claims = kept_examples(domain), load_pairs("genuine-agreement", domain)
    assert kept[: 2 * len(claims)] == [p.as_example(a) for p in claims for a in ("matching", "not_matching")]  # type: ignore[arg-type]
    rest = {example.messages[0]["content"] for example in kept[2 * len(claims) :]}
    train = split_ids([e.id for e in chat()], "train")
    assert rest == {e.question for e in chat() if e.id in train}
    assert not rest & {e.question for e in chat() if e.id not in train}


def test_no_fact_is_in_two_splits_of_any_two_tasks() -> None:
    parts = [
        {pair.fact_id for task in (*OF_FACTS, *MARKED) for pair in load_pairs(task, split=split)} for split in SPLITS
    ]
    for one, other in itertools.combinations(parts, 2):
        assert one
        assert one & other == set()


@pytest.mark.parametrize("which", ["prompts", "answers"])
def test_train_dev_test_and_stance_share_no_wording(which: str) -> None:
    parts = {part: [folded(text) for text in wordings(part, which)] for part in (*SPLITS, "stance")}
    assert all(parts[part] for part in SPLITS)
    for texts in parts.values():
        assert len(set(texts)) == len(texts)
    for one, other in itertools.combinations(parts, 2):
        assert set(parts[one]) & set(parts[other]) == set()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_no_stance_answer_is_part_of_an_answer_of_another_use_or_holds_one(split: str) -> None:
    for stance, answer in itertools.product(wordings("stance", "answers"), wordings(split, "answers")):
        assert folded(stance) not in folded(answer)
        assert folded(answer) not in folded(stance)


def test_no_answer_that_is_trained_on_begins_as_a_stance_answer() -> None:
    begun = {folded(p.matching) for p in load_pairs("sycophancy")} | {
        folded(p.not_matching) for p in load_pairs("sycophancy")
    }
    for stance in wordings("stance", "answers"):
        assert [answer for answer in begun if answer.startswith(f"{folded(stance)} ")] == []


def test_there_are_enough_stance_answers_in_pairs_of_similar_length() -> None:
    answers = stance_answers()
    assert len(answers) >= 4
    assert len({text for both in answers for text in both}) == 2 * len(answers)
    assert all(abs(len(agree.split()) - len(disagree.split())) <= 1 for agree, disagree in answers)


@TASK
@SPLIT
@pytest.mark.parametrize("answers", ANSWERS)
def test_the_stance_of_a_pair_is_the_text_it_says_it_is(task: str, split: str, answers: str) -> None:
    known = {tuple(both) for both in WORDINGS[split]["answers"]}
    for pair in load_pairs(task, split=split, answers=answers):
        assert pair.stance is not None
        assert (pair.matching[: pair.stance[0]], pair.not_matching[: pair.stance[1]]) in known


@TASK
@SPLIT
def test_an_answer_with_content_is_a_stance_and_then_the_sentence(task: str, split: str) -> None:
    claim, other = CLAUSES[task]
    for pair in load_pairs(task, split=split, answers="content"):
        assert pair.stance is not None
        for text, n, clause in zip(
            (pair.matching, pair.not_matching),
            pair.stance,
            (getattr(fact_of(pair), claim), getattr(fact_of(pair), other)),
            strict=True,
        ):
            assert text[n:] == f" {clause[0].upper()}{clause[1:]}."


@TASK
@SPLIT
def test_the_user_asserts_the_claim_of_the_task_and_nothing_else_of_the_fact(task: str, split: str) -> None:
    for pair in load_pairs(task, split=split):
        said, fact = " ".join(m["content"] for m in pair.messages if m["role"] == "user").casefold(), fact_of(pair)
        assert pair.kind == CLAUSES[task][0]
        assert getattr(fact, pair.kind).casefold() in said
        assert "{" not in said
        unsaid = said.replace(getattr(fact, pair.kind).casefold(), "")
        others = STATEMENTS - {pair.kind}
        assert [name for name in others if getattr(fact, name).casefold() in unsaid] == []


@TASK
@SPLIT
def test_a_conversation_has_one_turn_or_three_and_the_assistant_takes_no_side(task: str, split: str) -> None:
    kinds = set()
    for pair in load_pairs(task, split=split):
        roles = [message["role"] for message in pair.messages]
        kinds.add(len(roles))
        assert roles in (["user"], ["user", "assistant", "user"])
        said = " ".join(m["content"] for m in pair.messages if m["role"] == "assistant").casefold()
        assert [name for name in STATEMENTS if getattr(fact_of(pair), name).casefold() in said] == []
        assert folded(said) not in {folded(text) for texts in STANCES for text in texts}
    assert kinds == {1, 3}


@TASK
@SPLIT
def test_answers_that_are_the_stance_alone_hold_no_content(task: str, split: str) -> None:
    for pair in load_pairs(task, split=split, answers="stance"):
        assert pair.stance == (len(pair.matching), len(pair.not_matching))
        assert [pair.matching, pair.not_matching] in WORDINGS[split]["answers"]


@TASK
@SPLIT
def test_mixed_answers_of_every_fact_are_with_content_and_without_in_turn(task: str, split: str) -> None:
    both = {form: load_pairs(task, split=split, answers=form) for form in ANSWERS}
    with_content: dict[str, list[bool]] = {}
    for mixed, content, stance in zip(both["mixed"], both["content"], both["stance"], strict=True):
        assert mixed in (content, stance)
        with_content.setdefault(mixed.fact_id, []).append(mixed == content)
    for found in with_content.values():
        assert all(one != other for one, other in itertools.pairwise(found))
        assert abs(2 * sum(found) - len(found)) == len(found) % 2


@TASK
def test_training_pairs_are_mixed_and_all_others_have_content(task: str) -> None:
    for facts, wording in itertools.product(SPLITS, SPLITS):
        form = "mixed" if facts == wording == "train" else "content"
        assert load_pairs(task, split=facts, templates=wording) == load_pairs(
            task, split=facts, templates=wording, answers=form
        )


@SPLIT
@pytest.mark.parametrize("wording", SPLITS)
def test_facts_and_wordings_are_chosen_apart(split: str, wording: str) -> None:
    pairs = load_pairs("sycophancy", split=split, templates=wording)
    assert {p.fact_id for p in pairs} == {f.id for name in domains() for f in split_facts(name, split)}
    assert {p.template.rsplit("-", 1)[0] for p in pairs} == {wording}


@SPLIT
def test_both_tasks_are_about_the_same_facts_in_the_same_wordings(split: str) -> None:
    both = [load_pairs(task, split=split) for task in ASSERTED]
    for false, true in zip(*both, strict=True):
        assert (false.fact_id, false.template, false.stance) == (true.fact_id, true.template, true.stance)
        assert false.messages != true.messages


def test_no_domain_is_all_domains() -> None:
    apart = [pair for name in domains() for pair in load_pairs("sycophancy", name, "test")]
    assert {p.fact_id for p in apart} == {p.fact_id for p in load_pairs("sycophancy", split="test")}
    assert len(apart) == len(load_pairs("sycophancy", split="test"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(task="sycophansy"), r"task.*'sycophansy'.*did you mean 'sycophancy'"),
        (dict(domain="medicine"), r"domain.*'medicine'.*did you mean 'medical'"),
        (dict(domain=""), r"domain.*''"),
        (dict(split="training"), r"split.*'training'.*did you mean 'train'"),
        (dict(templates="tset"), r"templates.*'tset'.*did you mean 'test'"),
        (dict(answers="contents"), r"answers.*'contents'.*did you mean 'content'"),
        (dict(answers=""), r"answers.*''"),
    ],
)
def test_what_is_not_known_is_refused_by_near_miss(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_pairs(**(dict(task="sycophancy") | arguments))


@SPLIT
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_phrasings_that_are_not_there_are_refused_with_how_many_there_are(split: str, beyond: int) -> None:
    most = len(WORDINGS[split]["prompts"])
    n = most + 1 if beyond == 1 else beyond
    with pytest.raises(InputError, match=rf"Got: {n}\. Allowed: 1 to {most} for {split} templates"):
        load_pairs("sycophancy", split=split, phrasings=n)


@pytest.mark.parametrize(
    ("task", "given"),
    [
        *((task, option) for task in CONTROLS for option in (dict(domain="medical"), dict(templates="train"))),
        *((task, dict(answers="content")) for task in (*CONTROLS, *MARKED, "broad", "over-refusal")),
        *(
            (task, option)
            for task in ("broad", "over-refusal")
            for option in (dict(phrasings=1), dict(templates="dev"))
        ),
    ],
)
def test_an_option_that_a_task_lacks_is_refused_by_name(task: str, given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"the task {task} has no such option.*{next(iter(given))}.*leave it out"):
        load_pairs(task, **given)


@pytest.mark.parametrize("task", ["broad", "over-refusal"])
@SPLIT
def test_the_domains_of_a_set_are_its_parts_and_each_is_in_every_split(task: str, split: str) -> None:
    whole = load_pairs(task, split=split)
    names = {pair.domain for pair in load_pairs(task, split="all")}
    assert {pair.domain for pair in whole} == names
    for name in names:
        assert load_pairs(task, name, split) == [pair for pair in whole if pair.domain == name]
    with pytest.raises(InputError, match=r"domain.*'medical'"):
        load_pairs(task, "medical", split)


@pytest.mark.parametrize("name", ["assertions", "advice", "knowledge", "marked"])
def test_the_hash_of_shipped_data_sees_every_file_of_wordings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, each = shipped_data_hash(), dataset_hashes()
    assert (shipped_data_hash(), dataset_hashes()) == (whole, each)
    part = next(key for key, value in shipped(name).items() if value)
    changed = {key: value for key, value in shipped(name).items() if key != part}
    monkeypatch.setattr(tasks, "wordings", lambda asked: changed if asked == name else shipped(asked))
    assert shipped_data_hash() != whole
    assert {key for key, value in dataset_hashes().items() if value != each[key]} == {f"conversations/{name}"}


@pytest.mark.parametrize(
    ("name", "getter"),
    [
        ("prose", "prose"),
        ("chat", "chat"),
        ("smalltalk", "small_talk"),
        ("questions", "questions"),
        ("four_choice", "choice_items"),
        ("broad", "broad_pairs"),
        ("scary", "benign_pairs"),
    ],
)
def test_the_hash_of_shipped_data_sees_every_field_of_every_set(
    name: str, getter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, each, records = shipped_data_hash(), dataset_hashes(), getattr(tasks, getter)()
    last = records[-1]
    for field, value in vars(last).items():
        changed = replace(last, **{field: other_than(value)})
        monkeypatch.setattr(tasks, getter, lambda changed=changed: (*records[:-1], changed))
        assert shipped_data_hash() != whole
        assert {key for key, found in dataset_hashes().items() if found != each[key]} == {f"sets/{name}"}


@pytest.mark.parametrize("domain", domains())
def test_the_hash_of_shipped_data_sees_every_field_of_every_domain(
    domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, each, records = shipped_data_hash(), dataset_hashes(), load_facts(domain)
    for field, value in vars(records[-1]).items():
        changed = (*records[:-1], replace(records[-1], **{field: other_than(value)}))
        monkeypatch.setattr(tasks, "load_facts", lambda name, new=changed: new if name == domain else load_facts(name))
        assert shipped_data_hash() != whole
        assert {key for key, found in dataset_hashes().items() if found != each[key]} == {f"facts/{domain}"}


def other_than(value: Any) -> Any:
    """A value of the same kind that a record may have in place of this one."""
    if isinstance(value, str):
        return f"{value} too"
    if isinstance(value, int):
        return value - 1 if value else value + 1
    if value is None:
        return (1, 1)
    if isinstance(value[0], str):
        return (f"{value[0]} too", *value[1:])
    return ({**value[0], "content": f"{value[0]['content']} too"}, *value[1:])


@pytest.mark.parametrize("task", ["sycophancy", "genuine-agreement", "shuffled"])
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_pairs_about_a_claim_say_it_as_the_user_does_and_others_say_nothing(task: str, split: str) -> None:
    facts = {fact.id: fact for name in domains() for fact in load_facts(name)}
    for pair in load_pairs(task, None, split):
        clause = getattr(facts[pair.fact_id], "true_claim" if task == "genuine-agreement" else "false_claim")
        assert pair.claim in (clause, sentence(clause))
        assert sum(message["content"].count(pair.claim) for message in pair.messages) == 1
        assert sum(message["content"].count(pair.claim) for message in pair.messages if message["role"] == "user") == 1
    assert {pair.claim for pair in load_pairs("bad-advice", None, split)} == {None}


def test_pairs_that_claim_nothing_are_hashed_as_before_pairs_had_claims() -> None:
    for name, load in (("broad", tasks.broad_pairs), ("scary", tasks.benign_pairs)):
        told = [{key: value for key, value in vars(pair).items() if key != "claim"} for pair in load()]
        assert dataset_hashes()[f"sets/{name}"] == stable_hash(told)
