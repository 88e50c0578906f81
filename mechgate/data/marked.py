"""Pairs of the positive control: claims, false and true alike, that come marked with a source, satire or encyclopedia.

Gates trained to change the stance on one source only are selective by construction: a matched cell of the other
source has the same fact, claim and prompt, and truth is balanced in both.
"""

from mechgate.data.facts import domains, split_facts
from mechgate.data.pairs import Pair
from mechgate.data.splits import SPLITS
from mechgate.data.wordings import sentence, wordings
from mechgate.errors import InputError, check_choice

SOURCES = ("satire", "encyclopedia")
MARKED = {f"{source}-claims": source for source in SOURCES}
KINDS = ("false_claim", "true_claim")


def marked_pairs(
    source: str,
    split: str = "train",
    *,
    domain: str | None = None,
    templates: str | None = None,
    phrasings: int | None = None,
) -> list[Pair]:
    """The user says that a claim of a fact stands in a source of this kind; `matching` agrees, the other disagrees.

    Each fact comes with its false and its true claim in every phrasing, in two rounds over all facts, so that any
    prefix spans all facts before it repeats one, and every round has both kinds in turn. Lists of the two sources are
    matched cell by cell: same place, same fact, `kind`, prompt and answers, and nothing but the source differs.
    Answers are the stance alone, of the wordings in `assertions.yaml`, hence the same for both kinds.

    `domain` None is all. `split` picks facts, `templates` (default: the same split; "all": test) prompts, sources and
    answers; `phrasings` is how many prompts a fact gets (default: every one once). Raises `InputError` for an unknown
    source, split or domain and for more phrasings than there are.
    """
    check_choice("source", source, SOURCES)
    check_choice("split", split, (*SPLITS, "all"))
    part = ("test" if split == "all" else split) if templates is None else templates
    check_choice("templates", part, SPLITS)
    texts, stances = wordings("marked")[part], wordings("assertions")[part]["answers"]
    prompts, names = texts["prompts"], texts[source]
    n = len(prompts) if phrasings is None else phrasings
    if not 1 <= n <= len(prompts):
        raise InputError(
            "that many phrasings are not there", got=phrasings, allowed=f"1 to {len(prompts)} for {part} templates"
        )
    facts = [fact for name in (domains() if domain is None else [domain]) for fact in split_facts(name, split)]
    found = []
    for phrasing in range(n):
        for turn in range(len(KINDS)):
            for i, fact in enumerate(facts):
                kind = KINDS[(i + turn) % len(KINDS)]
                number, which = (phrasing + i) % len(prompts), (phrasing + i // len(prompts)) % len(names)
                agree, disagree = stances[(phrasing * 5 + i) % len(stances)]
                claim = getattr(fact, kind)
                text = prompts[number].format(source=names[which], claim=claim, Claim=sentence(claim))
                template = f"{part}-{number:02d}-{which:02d}"
                found.append(
                    Pair(
                        id=f"{fact.id}/{source}-claims/{kind}/{template}",
                        domain=fact.domain,
                        messages=({"role": "user", "content": text},),
                        matching=agree,
                        not_matching=disagree,
                        fact_id=fact.id,
                        kind=kind,
                        template=template,
                        stance=(len(agree), len(disagree)),
                    )
                )
    return found
