"""Laws of the positive control's data: matched cells, balanced truth, and no wording in two splits."""

import itertools
import re
from collections import Counter
from typing import Any

import pytest

from mechgate.data.facts import domains, load_facts, split_facts
from mechgate.data.marked import KINDS, MARKED, SOURCES, marked_pairs
from mechgate.data.splits import SPLITS
from mechgate.data.tasks import load_pairs
from mechgate.data.wordings import wordings
from mechgate.errors import InputError

SOURCE, SPLIT = pytest.mark.parametrize("source", SOURCES), pytest.mark.parametrize("split", SPLITS)
TEXTS, FACTS = wordings("marked"), {fact.id: fact for name in domains() for fact in load_facts(name)}


def folded(text: str) -> str:
    return " ".join(re.sub(r"\W+", " ", text).casefold().split())


@SPLIT
def test_cells_of_the_two_sources_differ_in_the_source_alone(split: str) -> None:
    satire, encyclopedia = (marked_pairs(source, split) for source in SOURCES)
    assert len(satire) == len(encyclopedia) > 0
    for one, other in zip(satire, encyclopedia, strict=True):
        for field in ("domain", "fact_id", "kind", "template", "matching", "not_matching", "stance"):
            assert getattr(one, field) == getattr(other, field)
        which = int(one.template.rsplit("-", 1)[1])
        name, instead = TEXTS[split]["satire"][which], TEXTS[split]["encyclopedia"][which]
        text = one.messages[0]["content"]
        assert text.count(name) == 1
        assert text.replace(name, instead) == other.messages[0]["content"] != text


@SOURCE
@SPLIT
@pytest.mark.parametrize("domain", [None, *domains()])
def test_each_fact_has_its_false_and_its_true_claim_in_every_phrasing_in_the_same_words(
    source: str, split: str, domain: str | None
) -> None:
    pairs, n = marked_pairs(source, split, domain=domain), len(TEXTS[split]["prompts"])
    names = domains() if domain is None else [domain]
    ids = sorted(fact.id for name in names for fact in split_facts(name, split))
    cells = {(p.fact_id, p.kind, p.template): p for p in pairs}
    assert len(cells) == len(pairs) == len(ids) * len(KINDS) * n
    for p in pairs:
        twin = cells[p.fact_id, KINDS[1 - KINDS.index(p.kind)], p.template]
        assert (twin.matching, twin.not_matching) == (p.matching, p.not_matching)
    for name in ids:
        used = Counter(p.template.split("-")[1] for p in pairs if p.fact_id == name)
        assert len(used) == n
        assert set(used.values()) == {len(KINDS)}


@SOURCE
@SPLIT
def test_any_prefix_spans_facts_before_it_repeats_one_and_has_both_kinds_evenly(source: str, split: str) -> None:
    pairs = marked_pairs(source, split)
    size = len({p.fact_id for p in pairs})
    for start in range(0, len(pairs), size):
        assert len({p.fact_id for p in pairs[start : start + size]}) == size
    for end in range(len(pairs) + 1):
        kinds = Counter(p.kind for p in pairs[:end])
        assert abs(kinds[KINDS[0]] - kinds[KINDS[1]]) <= 1


@SOURCE
@SPLIT
def test_answers_go_with_neither_kind(source: str, split: str) -> None:
    answers: dict[str, Counter[tuple[str, str]]] = {kind: Counter() for kind in KINDS}
    for p in marked_pairs(source, split):
        answers[p.kind][p.matching, p.not_matching] += 1
    assert answers[KINDS[0]] == answers[KINDS[1]]
    assert set(answers[KINDS[0]]) == {(a, b) for a, b in wordings("assertions")[split]["answers"]}


@SOURCE
@SPLIT
def test_a_prompt_holds_its_claim_and_no_other_statement_of_the_fact(source: str, split: str) -> None:
    for p in marked_pairs(source, split):
        text, fact = p.messages[0]["content"].casefold(), FACTS[p.fact_id]
        assert "{" not in text
        assert text.count(getattr(fact, p.kind).casefold()) == 1
        rest = text.replace(getattr(fact, p.kind).casefold(), "")
        for other in ("false_claim", "correction", "true_claim", "false_counterpart"):
            assert getattr(fact, other).casefold() not in rest


def test_splits_share_no_prompt_and_no_source_and_no_two_are_the_same() -> None:
    for which in ("prompts", *SOURCES):
        parts = [{folded(text) for text in TEXTS[split][which]} for split in SPLITS]
        assert [len(part) for part in parts] == [len(TEXTS[split][which]) for split in SPLITS]
        for one, other in itertools.combinations(parts, 2):
            assert one & other == set()
    said = {split: {p.messages[0]["content"] for s in SOURCES for p in marked_pairs(s, split)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert said[one] & said[other] == set()


def test_every_source_ends_in_the_word_of_its_kind_and_every_prompt_in_its_source() -> None:
    for split in SPLITS:
        for source, other in (SOURCES, SOURCES[::-1]):
            assert all(name.endswith(source) and other not in name for name in TEXTS[split][source])
        for prompt in TEXTS[split]["prompts"]:
            assert prompt.endswith("{source}.")
            assert not any(source in prompt.casefold().replace("{source}", "") for source in SOURCES)


def test_prompts_have_each_of_their_parts_once_and_sources_come_in_equal_numbers() -> None:
    for split in SPLITS:
        assert len(TEXTS[split]["satire"]) == len(TEXTS[split]["encyclopedia"])
        assert set(TEXTS[split]["satire"]) & set(TEXTS[split]["encyclopedia"]) == set()
        for prompt in TEXTS[split]["prompts"]:
            assert prompt.count("{source}") == 1
            assert prompt.count("{claim}") + prompt.count("{Claim}") == 1


@SPLIT
@pytest.mark.parametrize("task", MARKED)
def test_the_tasks_are_these_pairs_with_the_same_options(task: str, split: str) -> None:
    found = load_pairs(task, "legal", split, templates="dev", phrasings=2)
    assert found == marked_pairs(MARKED[task], split, domain="legal", templates="dev", phrasings=2)
    assert load_pairs(task, split=split) == marked_pairs(MARKED[task], split)


@SOURCE
def test_fewer_phrasings_are_the_beginning_of_all(source: str) -> None:
    whole = marked_pairs(source, "dev")
    for n in range(1, len(TEXTS["dev"]["prompts"]) + 1):
        part = marked_pairs(source, "dev", phrasings=n)
        assert part == whole[: len(part)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(source="satyre"), r"source.*'satyre'.*did you mean 'satire'"),
        (dict(split="tset"), r"split.*'tset'.*did you mean 'test'"),
        (dict(domain="medicine"), r"domain.*'medicine'.*did you mean 'medical'"),
        (dict(templates="all"), r"templates.*'all'"),
        (dict(phrasings=0), r"phrasings.*Got: 0.*1 to 8 for train"),
        (dict(phrasings=9), r"phrasings.*Got: 9.*1 to 8 for train"),
    ],
)
def test_what_is_not_there_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        marked_pairs(**{"source": "satire", **arguments})
