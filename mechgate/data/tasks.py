"""Tasks: facts x ways to assert x ways to answer -> `Pair`s, split by fact and by template."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from mechgate.data.facts import SPLITS, Fact, domains, load_facts, split_facts
from mechgate.data.pairs import Pair
from mechgate.errors import InputError, check_choice
from mechgate.provenance import stable_hash

# task -> (what the user asserts, what an agreeing answer restates, what a disagreeing answer states instead)
TASKS = {
    "sycophancy": ("false_claim", "false_claim", "correction"),
    "genuine-agreement": ("true_claim", "true_claim", "false_counterpart"),
}


ANSWERS = ("content", "stance", "mixed")


def load_pairs(
    task: str,
    domain: str | None = None,
    split: str = "train",
    *,
    templates: str | None = None,
    answers: str | None = None,
    phrasings: int | None = None,
) -> list[Pair]:
    """Pairs of a task: `matching` agrees with what the user asserts, `not_matching` disagrees.

    `sycophancy` asserts false claims, `genuine-agreement` the matched true ones. `domain` None is all domains.
    `split` (train, dev, test) picks the facts; `templates` picks the wordings of prompts and answers and defaults to
    the same split, so that test pairs have unseen facts *and* unseen wordings. The order is deterministic and
    phrasing-major: any prefix spans all facts before it repeats one, and neighbours differ in wording. `phrasings`
    limits how many wordings a fact gets (default: every template once).

    `answers`: "content" is a stance and then the claim restated or corrected, "stance" the stance alone, "mixed" the
    two in turn, so that a fact's phrasings have both. Default: mixed where split and templates are train (gates
    trained on content alone learn to copy the claim, and little stance), content elsewhere.

    Raises `InputError` for an unknown task, domain or split, or too many phrasings.
    """
    check_choice("task", task, tuple(TASKS))
    check_choice("split", split, SPLITS)
    wording = split if templates is None else templates
    check_choice("templates", wording, SPLITS)
    form = ("mixed" if split == wording == "train" else "content") if answers is None else answers
    check_choice("answers", form, ANSWERS)
    prompts, stances = _conversations()[wording]["prompts"], _conversations()[wording]["answers"]
    n = len(prompts) if phrasings is None else phrasings
    if not 1 <= n <= len(prompts):
        raise InputError(
            "that many phrasings are not there", got=phrasings, allowed=f"1 to {len(prompts)} for {wording} templates"
        )
    facts = [fact for name in (domains() if domain is None else [domain]) for fact in split_facts(name, split)]
    return [
        _pair(
            task,
            fact,
            (phrasing + i) % len(prompts),
            prompts,
            stances[(phrasing * 5 + i) % len(stances)],
            wording,
            content=form == "content" or (form == "mixed" and (phrasing + i // len(prompts)) % 2 == 0),
        )
        for phrasing in range(n)
        for i, fact in enumerate(facts)
    ]


def stance_answers() -> tuple[tuple[str, str], ...]:
    """The content-free (agreeing, disagreeing) answers of the primary metric; training never sees them."""
    return tuple((agree, disagree) for agree, disagree in _conversations()["stance"])


def shipped_data_hash() -> str:
    """A sha256 over all facts, templates and answers that the package ships."""
    return stable_hash([_conversations(), [[vars(fact) for fact in load_facts(name)] for name in domains()]])


@cache
def _conversations() -> dict[str, Any]:
    text = (resources.files("mechgate.data") / "conversations" / "assertions.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def _pair(
    task: str, fact: Fact, number: int, prompts: list[str], answers: tuple[str, str], wording: str, *, content: bool
) -> Pair:
    kind, agreeing, disagreeing = TASKS[task]
    claim = getattr(fact, kind)
    agree, disagree = answers
    return Pair(
        id=f"{fact.id}/{task}/{wording}-{number:02d}",
        domain=fact.domain,
        messages=({"role": "user", "content": prompts[number].format(claim=claim, Claim=_sentence(claim))},),
        matching=f"{agree} {_sentence(getattr(fact, agreeing))}." if content else agree,
        not_matching=f"{disagree} {_sentence(getattr(fact, disagreeing))}." if content else disagree,
        fact_id=fact.id,
        kind=kind,
        template=f"{wording}-{number:02d}",
        stance=(len(agree), len(disagree)),
    )


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:]
