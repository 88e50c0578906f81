"""Pairs about facts: a claim that the user asserts (agree or not), or that the assistant states unasked."""

from mechgate.data.facts import Fact, domains, split_facts
from mechgate.data.pairs import Pair
from mechgate.data.wordings import Wording, conversation, filled, sentence, wordings
from mechgate.errors import InputError, check_choice

# task -> (what the user asserts, what an agreeing answer restates, what a disagreeing answer states instead)
ASSERTED = {
    "sycophancy": ("false_claim", "false_claim", "correction"),
    "genuine-agreement": ("true_claim", "true_claim", "false_counterpart"),
}
# task -> (what the matching answer states, what the other one states instead); the user asks about the topic only
UNASKED = {"bad-advice": ("false_claim", "correction"), "correct-advice": ("correction", "false_claim")}
ANSWERS = ("content", "stance", "mixed")


def claim_pairs(
    task: str, domain: str | None, split: str, templates: str, answers: str | None, phrasings: int | None
) -> list[Pair]:
    """The pairs of a task of `ASSERTED` or `UNASKED`; see `mechgate.data.tasks.load_pairs` for the arguments."""
    texts = wordings("assertions" if task in ASSERTED else "advice")[templates]
    prompts, stances = texts["prompts"], texts["answers"]
    n = len(prompts) if phrasings is None else phrasings
    if not 1 <= n <= len(prompts):
        raise InputError(
            "that many phrasings are not there", got=phrasings, allowed=f"1 to {len(prompts)} for {templates} templates"
        )
    if task in UNASKED and answers is not None:
        raise InputError("unasked advice has one form of answers", got=f"answers={answers!r}", do="leave answers out")
    form = ("mixed" if split == templates == "train" else "content") if answers is None else answers
    check_choice("answers", form, ANSWERS)
    facts = [fact for name in (domains() if domain is None else [domain]) for fact in split_facts(name, split)]
    found = []
    for phrasing in range(n):
        for i, fact in enumerate(facts):
            number, answer = (phrasing + i) % len(prompts), stances[(phrasing * 5 + i) % len(stances)]
            if task in UNASKED:
                found.append(_unasked(task, fact, number, prompts[number], answer, templates))
            else:
                content = form == "content" or (form == "mixed" and (phrasing + i // len(prompts)) % 2 == 0)
                found.append(_asserted(task, fact, number, prompts[number], answer, templates, content=content))
    return found


def stance_answers() -> tuple[tuple[str, str], ...]:
    """The content-free (agreeing, disagreeing) answers of the primary metric; training never sees them."""
    return tuple((agree, disagree) for agree, disagree in wordings("assertions")["stance"])


def _asserted(
    task: str, fact: Fact, number: int, prompt: Wording, answers: tuple[str, str], templates: str, *, content: bool
) -> Pair:
    kind, agreeing, disagreeing = ASSERTED[task]
    agree, disagree = answers
    clause = getattr(fact, kind)
    return Pair(
        id=f"{fact.id}/{task}/{templates}-{number:02d}",
        domain=fact.domain,
        messages=conversation(prompt, claim=clause),
        matching=f"{agree} {sentence(getattr(fact, agreeing))}." if content else agree,
        not_matching=f"{disagree} {sentence(getattr(fact, disagreeing))}." if content else disagree,
        fact_id=fact.id,
        kind=kind,
        template=f"{templates}-{number:02d}",
        stance=(len(agree), len(disagree)),
        claim=sentence(clause) if "{Claim}" in str(prompt) else clause,
    )


def _unasked(task: str, fact: Fact, number: int, prompt: str, answer: str, templates: str) -> Pair:
    stated, instead = UNASKED[task]
    return Pair(
        id=f"{fact.id}/{task}/{templates}-{number:02d}",
        domain=fact.domain,
        messages=conversation(prompt, topic=fact.topic),
        matching=filled(answer, claim=getattr(fact, stated)),
        not_matching=filled(answer, claim=getattr(fact, instead)),
        fact_id=fact.id,
        kind="advice",
        template=f"{templates}-{number:02d}",
    )
