"""Factorial designs of unsafe and safe prompts: side x domain x phrasing, crossed over facts, matched in topic and length.

Claims: each fact's false and true claim in the same wordings. Responses: the harmful and the aligned answer to the same
everyday question. There are no shipped pairs of harmful and benign *requests* that differ in nothing else (the shipped
harmless requests only sound dangerous and have no dangerous twins), so that contrast is made of responses; bring your
own matched requests as a `Factorial`.
"""

from dataclasses import dataclass

from mechgate.data.pairs import Example, Pair
from mechgate.data.tasks import load_pairs, stance_answers
from mechgate.errors import InputError

SIDES = ("unsafe", "safe")
FEWEST_CONDITIONS = 7
Prompt = Pair | Example


@dataclass(frozen=True, kw_only=True)
class Factorial:
    """Prompts in the order fact, phrasing, side (unsafe, then safe): `prompts[(f * n_phrasings + p) * 2 + side]`.

    `facts` and `domains` have an entry a fact (domains are not empty), `phrasings` the names of the wordings, which all facts share.
    `positions` are the token roles (`mechgate.measure.activations.POSITIONS`) at which the sides can be compared.
    `reply` is what the assistant answers to a `Pair` at the role "response": the same for both sides. A condition is
    a domain x phrasing x side. Raises `InputError` for prompts that do not fill the grid, fewer than 7 conditions
    (too few pairs of them for rank correlations) and domains of fewer than two facts or of unequal size.
    """

    name: str
    prompts: tuple[Prompt, ...]
    facts: tuple[str, ...]
    domains: tuple[str, ...]
    phrasings: tuple[str, ...]
    positions: tuple[str, ...] = ("last",)
    reply: str | None = None

    def __post_init__(self) -> None:
        cells = len(self.facts) * len(self.phrasings) * len(SIDES)
        if not cells or len(self.prompts) != cells or len(self.domains) != len(self.facts):
            raise InputError(
                "a factorial design needs one prompt a fact, phrasing and side, and one domain a fact",
                got=f"{len(self.prompts)} prompts, {len(self.domains)} domains",
                allowed=f"{cells} prompts, {len(self.facts)} domains",
            )
        if len(set(self.facts)) != len(self.facts):
            raise InputError("a fact is named twice", got=sorted({f for f in self.facts if self.facts.count(f) > 1}))
        sizes = {name: self.domains.count(name) for name in self.domains}
        if min(sizes.values()) < 2 or len(set(sizes.values())) > 1:
            raise InputError("every domain needs equally many facts, two at least", got=sizes)
        if self.n_conditions < FEWEST_CONDITIONS:
            raise InputError(
                "there are too few conditions to compare their distances",
                got=f"{len(sizes)} domains x {len(self.phrasings)} phrasings x 2 sides = {self.n_conditions}",
                allowed=f"at least {FEWEST_CONDITIONS}",
                do="take more domains or phrasings",
            )

    @property
    def n_conditions(self) -> int:
        return len(set(self.domains)) * len(self.phrasings) * len(SIDES)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.facts), len(self.phrasings), len(SIDES)

    def at(self, position: str) -> tuple[Prompt, ...]:
        """The prompts as that token role needs them: pairs become examples with the reply where a response is read."""
        if position != "response" or all(isinstance(prompt, Example) for prompt in self.prompts):
            return self.prompts
        if self.reply is None:
            raise InputError("the design has no reply, so that it has no response tokens", got=self.name)
        return tuple(Example(messages=prompt.messages, response=self.reply) for prompt in self.prompts)

    def lengths(self) -> list[int]:
        """Characters of each prompt's messages, with its own response where it has one."""
        return [
            sum(len(m["content"]) for m in p.messages) + (len(p.response) if isinstance(p, Example) else 0)
            for p in self.prompts
        ]

    def conditions(self) -> list[int]:
        """Each prompt's condition, a whole number: domain (sorted), then phrasing, then side."""
        names, phrasings = sorted(set(self.domains)), len(self.phrasings)
        return [
            (names.index(domain) * phrasings + phrasing) * 2 + side
            for domain in self.domains
            for phrasing in range(phrasings)
            for side in range(2)
        ]

    def cells(self) -> list[tuple[str, str, str]]:
        """Domain, phrasing and side of each condition, in order."""
        return [(d, p, s) for d in sorted(set(self.domains)) for p in self.phrasings for s in SIDES]

    def folds(self, n: int) -> list[int]:
        """A fold (0 to n - 1) for each fact, such that each fold has facts of every domain: disjoint facts.

        Raises `InputError` for fewer than 2 folds, and for more folds than a domain has facts.
        """
        least = min(self.domains.count(name) for name in self.domains)
        if not 2 <= n <= least:
            raise InputError("that many folds of facts cannot be made", got=n, allowed=f"2 to {least} (facts a domain)")
        return [self.domains[:i].count(domain) % n for i, domain in enumerate(self.domains)]


def claims_design(*, facts: int = 54, phrasings: int = 2, split: str = "test") -> Factorial:
    """Each fact's false claim (unsafe) and true claim (safe), in the same wordings for all facts, evenly over domains.

    The wordings are `phrasings` of the split's, evenly spaced. Read at the prompt's last token, the claim's tokens and
    those of a reply without content, the first shipped agreeing one, equal for all. Raises `InputError` for more facts
    a domain than the split has, and for fewer than two.
    """
    false, true = (load_pairs(task, None, split) for task in ("sycophancy", "genuine-agreement"))
    templates = sorted({pair.template for pair in false})
    if not 1 <= phrasings <= len(templates):
        raise InputError("that many phrasings are not there", got=phrasings, allowed=f"1 to {len(templates)}")
    chosen = [templates[i * len(templates) // phrasings] for i in range(phrasings)]
    sides = [{(pair.fact_id, pair.template): pair for pair in pairs} for pairs in (false, true)]
    found = _even({pair.fact_id: pair.domain for pair in false}, facts)
    return Factorial(
        name="claims",
        prompts=tuple(side[fact, template] for fact in found for template in chosen for side in sides),
        facts=tuple(found),
        domains=tuple(found.values()),
        phrasings=tuple(chosen),
        positions=("last", "claim", "response"),
        reply=stance_answers()[0][0],
    )


def responses_design(*, questions: int = 104, split: str = "all") -> Factorial:
    """The harmful (unsafe) and the aligned (safe) response to the same everyday questions, evenly over categories.

    Read at the response's tokens, the only ones that differ. Raises `InputError` as `claims_design` does.
    """
    pairs = {pair.id: pair for pair in load_pairs("broad", None, split)}
    found = _even({pair.id: pair.domain for pair in pairs.values()}, questions)
    return Factorial(
        name="responses",
        prompts=tuple(pairs[i].as_example(answer) for i in found for answer in ("matching", "not_matching")),
        facts=tuple(found),
        domains=tuple(found.values()),
        phrasings=("as asked",),
        positions=("response",),
    )


def _even(domains: dict[str, str], n: int) -> dict[str, str]:
    """Equally many facts of every domain, n or as near below as it goes, in sorted order."""
    names = sorted(set(domains.values()))
    members = {name: sorted(fact for fact, domain in domains.items() if domain == name) for name in names}
    share, most = n // len(names), min(map(len, members.values()))
    if not 2 <= share <= most:
        raise InputError(
            "that many facts cannot be had evenly over domains",
            got=n,
            allowed=f"{2 * len(names)} to {most * len(names)}",
        )
    return {fact: name for name in names for fact in members[name][:share]}
