"""Laws of the cards: everything shipped has one, and what a card counts is what is there."""

import re
from importlib import resources

import pytest

from mechgate.data.cards import CARDS, SETS, card_of, names, records_of, sizes
from mechgate.data.controls import CONTROLS
from mechgate.data.facts import domains, load_facts
from mechgate.data.sets import chat, choice_items, prose
from mechgate.data.splits import SPLITS
from mechgate.data.tasks import TASKS, dataset_hashes, load_pairs
from mechgate.data.traits import TRAITS, load_trait
from mechgate.data.wordings import wordings
from mechgate.errors import InputError

NUMBERS = {"two": 2, "four": 4, "five": 5, "six": 6, "eight": 8, "ten": 10, "twelve": 12}


def text_of(card: str) -> str:
    """A card as one line."""
    return " ".join(card_of(card).split())


def numbers(pattern: str, card: str) -> tuple[int, ...]:
    """The numbers, in digits or as words, that a card has at the groups of a pattern."""
    found = re.search(pattern, text_of(card))
    assert found, f"{card} does not say {pattern}"
    return tuple(NUMBERS[n] if n in NUMBERS else int(n.replace(",", "")) for n in found.groups())


@pytest.mark.parametrize("name", [*TASKS, *SETS, *(f"facts/{d}" for d in domains()), *CARDS])
def test_everything_that_is_shipped_has_a_card_of_the_same_parts(name: str) -> None:
    assert name in names()
    card = card_of(name)
    assert card.startswith("# ")
    assert card.isascii()
    for part in ("**What.**", "**How made.**", "**Limits.**"):
        assert card.count(part) == 1


def test_every_card_is_a_file_and_every_file_a_card() -> None:
    folder = resources.files("mechgate.data") / "cards"
    assert sorted(file.name for file in folder.iterdir()) == sorted(f"{card}.md" for card in CARDS)
    assert len({card_of(card) for card in CARDS}) == len(CARDS)


def test_names_are_unique_and_sets_are_those_that_are_hashed() -> None:
    assert len(set(names())) == len(names())
    assert set(sizes()) | {f"conversations/{n}" for n in ("assertions", "advice", "knowledge", "marked")} == set(
        dataset_hashes()
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_card_of_a_task_names_it_or_is_named_after_it(task: str) -> None:
    assert f"*{task}*" in text_of(task) or task in card_of(task).splitlines()[0].casefold()


@pytest.mark.parametrize("name", sizes())
def test_a_set_has_as_many_records_as_it_says(name: str) -> None:
    assert sizes()[name] == len(records_of(name, "test")) > 0


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_records_of_a_task_are_its_pairs(task: str, split: str) -> None:
    assert records_of(task, split) == load_pairs(task, split=split)


@pytest.mark.parametrize("card", [c for c in CARDS if c not in TASKS])
def test_a_card_of_several_things_has_no_records_of_its_own(card: str) -> None:
    assert list(records_of(card, "test")) == []


def test_the_card_of_facts_counts_them() -> None:
    whole = sum(n for name, n in sizes().items() if name.startswith("facts/"))
    assert numbers(r"(\d+) facts, (\d+) in each of (\w+) domains", "facts") == (whole, 60, len(domains()))
    assert {len(load_facts(name)) for name in domains()} == {60}
    assert f"({', '.join(domains())})" in text_of("facts")
    counted = tuple(len({p.fact_id for p in load_pairs("sycophancy", "legal", split)}) for split in SPLITS)
    assert numbers(r"By fact: (\d+) train, (\d+) dev, (\d+) test", "facts") == counted


def test_the_card_of_conversations_counts_the_wordings() -> None:
    asserted, advice, knowledge = (wordings(name) for name in ("assertions", "advice", "knowledge"))
    found = numbers(
        r"(\d+) and (\d+) for training, (\d+) and (\d+) for dev, (\d+) and (\d+) for test, and (\d+) content-free",
        "conversations",
    )
    counted = [len(asserted[split][which]) for split in SPLITS for which in ("prompts", "answers")]
    assert found == (*counted, len(asserted["stance"]))
    found = numbers(r"topic \((\d+), (\d+), (\d+)\) and to state a claim \((\d+), (\d+), (\d+)\)", "conversations")
    assert found == tuple(len(advice[split][which]) for which in ("prompts", "answers") for split in SPLITS)
    found = numbers(r"(\d+) neutral questions .* \((\d+) to select facts by, (\d+) to report on\)", "conversations")
    counted = [len(knowledge[part]) for part in ("dev", "report")]
    assert found == (sum(counted), *counted)


def test_the_card_of_controls_names_them_all_and_counts_what_they_are_made_of() -> None:
    assert [task for task in CONTROLS if f"*{task}*" not in text_of("controls")] == []
    units = {p.fact_id.split("-")[1] for p in load_pairs("unit-conversion", split="all")}
    assert numbers(r"of (\d+) conversions", "controls") == (len(units),)
    assert numbers(r"(\d+) exchanges of small talk, each asked in (\w+) frames", "controls") == (
        sizes()["sets/smalltalk"],
        len({p.template for p in load_pairs("sign-off")}),
    )


def test_the_cards_of_pairs_count_them_and_their_kinds() -> None:
    for name, pattern in {
        "broad": r"(\d+) everyday questions .* (\d+) in each of (\w+) categories",
        "scary": r"(\d+) harmless prompts of ()(\w+) kinds",
    }.items():
        pairs = SETS[f"sets/{name}"]()
        kinds = {pair.domain for pair in pairs}
        found = re.search(pattern, text_of(name))
        assert found
        assert int(found[1]) == len(pairs) == sizes()[f"sets/{name}"]
        assert NUMBERS[found[3]] == len(kinds)
        assert not found[2] or int(found[2]) * len(kinds) == len(pairs)
        for kind in kinds:
            assert kind.replace("-", " ") in text_of(name).replace("-", " ")


def test_the_card_of_broad_pairs_tells_how_much_longer_harmful_answers_are() -> None:
    pairs = SETS["sets/broad"]()
    gaps = [len(pair.matching.split()) - len(pair.not_matching.split()) for pair in pairs]
    found = re.search(r"mean difference ([\d.]+) words", text_of("broad"))
    assert found
    assert f"{abs(sum(gaps)) / len(gaps):.2f}" == found[1]


def test_the_card_of_benign_prompts_tells_how_many_refusals_open_alike() -> None:
    pairs = SETS["sets/scary"]()
    alike = sum(pair.matching.startswith("I'm sorry, but I can't") for pair in pairs)
    assert numbers(r"(\d+) of (\d+) refusals open with", "scary") == (alike, len(pairs))


def test_the_card_of_four_choice_items_counts_them() -> None:
    items = choice_items()
    subjects = {item.subject for item in items}
    found = numbers(r"(\d+) plain factual questions with four choices, (\d+) in each of (\w+) subjects", "four_choice")
    assert found == (len(items), len(items) // len(subjects), len(subjects))
    assert numbers(r"\((\d+) each\)", "four_choice") == (sum(item.answer == 0 for item in items),)


def test_the_card_of_neutral_text_counts_it() -> None:
    passages, exchanges = (
        numbers(r"(\d+) passages of plain prose of (\w+) genres \(about ([\d,]+) words\)", "neutral"),
        numbers(r"(\d+) question-answer exchanges of (\w+) subjects \(about ([\d,]+) words\)", "neutral"),
    )
    assert passages[:2] == (sizes()["sets/prose"], len({p.genre for p in prose()}))
    assert exchanges[:2] == (sizes()["sets/chat"], len({e.subject for e in chat()}))
    assert abs(sum(len(p.text.split()) for p in prose()) / passages[2] - 1) < 0.05
    assert abs(sum(len(f"{e.question} {e.answer}".split()) for e in chat()) / exchanges[2] - 1) < 0.05
    assert numbers(r"and (\d+) open questions of (\w+) kinds", "neutral")[0] == sizes()["sets/questions"]


def test_the_card_of_traits_counts_what_each_trait_has() -> None:
    found = numbers(
        r"(\w+) traits of replies.* (\w+) pairs of system messages.* (\d+) questions .* (\d+) other .* (\w+) pairs of openings",
        "traits",
    )
    traits = [load_trait(name) for name in TRAITS]
    for trait in traits:
        has = (len(trait.instructions), len(trait.extract), len(trait.evaluate), len(trait.answers))
        assert found == (len(traits), *has)
    assert [name for name in TRAITS if name not in text_of("traits")] == []


def test_files_that_cards_name_are_shipped() -> None:
    shipped = {name.split("/")[1] for name in dataset_hashes()}
    named = {found for card in CARDS for found in re.findall(r"`(\w+)\.yaml`", card_of(card))}
    assert named
    assert named <= shipped


def test_what_has_no_card_is_refused_by_near_miss() -> None:
    for look_up in (card_of, lambda name: records_of(name, "test")):
        with pytest.raises(InputError, match=r"name.*'sycophansy'.*did you mean 'sycophancy'"):
            look_up("sycophansy")
