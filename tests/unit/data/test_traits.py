"""Laws of the shipped traits: equal in form, nothing shared between what is extracted and what is held out."""

from pathlib import Path

import pytest

from mechgate.data.readers import read_persona_trait, write_persona_trait
from mechgate.data.traits import BAD, PARTS, TRAITS, UNRELATED, Trait, load_trait, trait_of, trait_pairs
from mechgate.errors import DataError, InputError


@pytest.mark.parametrize("name", TRAITS)
def test_a_trait_has_five_pairs_of_messages_20_questions_a_part_and_plain_ascii(name: str) -> None:
    trait = load_trait(name)
    sizes = [len(part) for part in (trait.instructions, trait.extract, trait.evaluate, trait.answers)]
    assert sizes == [5, 20, 20, 4]
    texts = [*sum(trait.instructions, ()), *trait.extract, *trait.evaluate, *sum(trait.answers, ())]
    assert all(text.isascii() for text in texts)
    assert len(set(texts)) == len(texts)
    assert trait.checkable


def test_no_question_belongs_to_two_traits() -> None:
    asked = [question for name in TRAITS for part in PARTS for question in getattr(load_trait(name), part)]
    assert len(set(asked)) == len(asked)
    assert set(BAD) | set(UNRELATED) == set(TRAITS)


@pytest.mark.parametrize("name", TRAITS)
def test_openings_of_a_pair_are_about_equally_long(name: str) -> None:
    for shows, plain in load_trait(name).answers:
        assert abs(len(shows.split()) - len(plain.split())) <= 3


@pytest.mark.parametrize("part", PARTS)
def test_a_trait_goes_through_the_public_format(tmp_path: Path, part: str) -> None:
    for name in TRAITS:
        public = load_trait(name).as_public(part)
        assert "{question}" in public.eval_prompt
        assert load_trait(name).meaning in public.eval_prompt
        assert read_persona_trait(write_persona_trait(public, tmp_path / f"{name}.json")) == public


def test_a_public_trait_can_be_extracted_and_not_checked() -> None:
    trait = load_trait("evil")
    read = trait_of(trait.as_public("extract"))
    assert (read.instructions, read.extract, read.checkable) == (trait.instructions, trait.extract, False)
    with pytest.raises(DataError, match="no openings"):
        trait_pairs(read, "extract")


def test_pairs_are_the_questions_each_a_cluster_of_its_own() -> None:
    pairs = trait_pairs("humour", "all")
    assert [p.messages[-1]["content"] for p in pairs] == [*load_trait("humour").extract, *load_trait("humour").evaluate]
    assert len({p.fact_id for p in pairs}) == len(pairs) == 40
    assert trait_pairs("humour") == pairs[20:]


def test_a_held_out_question_that_was_extracted_from_is_an_error() -> None:
    with pytest.raises(DataError, match="held out"):
        Trait(name="x", meaning="y", instructions=(("a", "b"),), extract=("one", "two"), evaluate=("two",))
    with pytest.raises(InputError, match="did you mean 'evil'"):
        load_trait("evill")
    with pytest.raises(InputError, match="part"):
        trait_pairs("evil", "train")
