"""Laws of the factorial designs: sides differ in nothing but what they are called after, and every cell is filled."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mechgate.data.factorial import Factorial, claims_design, responses_design
from mechgate.data.pairs import Example, Pair
from mechgate.errors import InputError


@pytest.fixture(scope="module")
def claims() -> Factorial:
    return claims_design(facts=24, phrasings=2)


def test_claims_of_a_fact_differ_in_the_claim_alone(claims: Factorial) -> None:
    assert claims.shape == (24, 2, 2)
    assert set(Counter(claims.domains).values()) == {4}
    cells = iter(claims.prompts)
    for fact, domain in zip(claims.facts, claims.domains, strict=True):
        for phrasing in claims.phrasings:
            false, true = next(cells), next(cells)
            assert isinstance(false, Pair)
            assert isinstance(true, Pair)
            for one, kind in ((false, "false_claim"), (true, "true_claim")):
                assert (one.fact_id, one.domain, one.template, one.kind) == (fact, domain, phrasing, kind)
            texts = [str(one.messages).replace(str(one.claim), "...") for one in (false, true)]
            assert texts[0] == texts[1]


def test_sides_are_matched_in_length(claims: Factorial) -> None:
    lengths = np.array(claims.lengths()).reshape(claims.shape)
    assert abs((lengths[..., 0] - lengths[..., 1]).mean()) < 0.05 * lengths.mean()


def test_responses_answer_the_same_question() -> None:
    design = responses_design()
    assert design.shape == (104, 1, 2)
    assert design.n_conditions == 16
    for harmful, aligned in zip(design.prompts[::2], design.prompts[1::2], strict=True):
        assert harmful.messages == aligned.messages
        assert isinstance(harmful, Example)
        assert isinstance(aligned, Example)
        assert harmful.response != aligned.response
    assert design.at("response") == design.prompts


def test_a_reply_is_the_same_for_all(claims: Factorial) -> None:
    examples = claims.at("response")
    assert {e.response for e in examples if isinstance(e, Example)} == {claims.reply}
    assert [e.messages for e in examples] == [p.messages for p in claims.prompts]
    assert claims.at("claim") == claims.prompts
    with pytest.raises(InputError, match="no reply"):
        replace(claims, reply=None).at("response")


def test_folds_are_disjoint_facts_with_every_domain_in_each(claims: Factorial) -> None:
    for n in (2, 3, 4):
        folds = claims.folds(n)
        assert {(f, d) for f, d in zip(folds, claims.domains, strict=True)} == {
            (f, d) for f in range(n) for d in set(claims.domains)
        }
    for n in (1, 5):
        with pytest.raises(InputError, match="folds"):
            claims.folds(n)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(prompts=()), "one prompt a fact"),
        (dict(facts=("x",) * 24), "named twice"),
        (dict(domains=("a",) * 23 + ("b",)), "two at least"),
        (dict(domains=("a",) * 24), "too few conditions"),
    ],
)
def test_holes_and_too_few_conditions_are_refused(claims: Factorial, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(claims, **change)


@pytest.mark.parametrize("facts", [6, 126])
def test_facts_that_cannot_be_had_evenly_are_refused(facts: int) -> None:
    with pytest.raises(InputError, match="evenly over domains"):
        claims_design(facts=facts)
    with pytest.raises(InputError, match="phrasings"):
        claims_design(phrasings=11)
