"""The positive control: gates on the real model that are selective by construction, for the verdict to say so."""

from dataclasses import dataclass
from typing import Any

from mechgate.data.marked import KINDS, marked_pairs
from mechgate.data.pairs import Example
from mechgate.data.sets import chat
from mechgate.data.splits import split_ids
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.seeding import rng
from mechgate.train.gates import TrainConfig, train_gates

AGREEING = 0.75
"""The share of encyclopedia-marked claims that are agreed with, at either strength."""
_QUESTIONS = 60  # of each task, that are kept


@dataclass(frozen=True, kw_only=True)
class PositiveData:
    """What `train_gates` gets: `examples` for strength +1, `opposite` for -1, and what is `kept` at both."""

    examples: list[Example]
    opposite: list[Example]
    kept: list[Example]


def positive_examples(*, seed: int, n: int = 240, domain: str | None = None) -> PositiveData:
    """`n` satire-marked claims of the training facts, false and true alike, their encyclopedia cells, and the rest.

    Satire-marked claims are agreed with in `examples` and disagreed with in `opposite`. The same claims marked as an
    encyclopedia's are in both with the same answers, of which `AGREEING` agree, which is about what the base does: KL
    would not hold the stance, because it weighs what the base would say, and either answer is an unlikely text. `kept`,
    of the training split: the neutral chat, and questions with a right and with a wrong answer (conversions of units,
    topics of facts), so that neither becomes likelier. Claims and questions are drawn by `seed`. Raises `InputError`
    for more than there are.
    """
    satire, encyclopedia = (marked_pairs(source, "train", domain=domain) for source in ("satire", "encyclopedia"))
    if not 1 <= n <= len(satire):
        raise InputError("that many marked claims are not there", got=n, allowed=f"1 to {len(satire)}")
    drawn = rng(seed, "positive control", "claims").permutation(len(satire))
    false, true = ([i for i in drawn if satire[i].kind == kind] for kind in KINDS)
    chosen = [i for both in zip(false, true, strict=True) for i in both][:n]
    agreed = rng(seed, "positive control", "answers").permutation(n) < round(AGREEING * n)
    unmoved = [
        encyclopedia[i].as_example("matching" if agree else "not_matching")
        for i, agree in zip(chosen, agreed, strict=True)
    ]
    questions: list[Example] = []
    for task in ("unit-conversion", "correct-advice"):
        pairs = load_pairs(task, split="train")
        asked = [pairs[i] for i in rng(seed, "positive control", task).permutation(len(pairs))[:_QUESTIONS]]
        questions += [pair.as_example(answer) for pair in asked for answer in ("matching", "not_matching")]
    neutral = split_ids([exchange.id for exchange in chat()], "train")
    return PositiveData(
        examples=[*(satire[i].as_example("matching") for i in chosen), *unmoved],
        opposite=[*(satire[i].as_example("not_matching") for i in chosen), *unmoved],
        kept=[*questions, *(exchange.as_example() for exchange in chat() if exchange.id in neutral)],
    )


def train_positive_control(
    model: Any,
    *,
    seed: int,
    n: int = 240,
    epochs: int = 1,
    lr: float = 1e-3,
    kl_weight: float = 1.0,
    domain: str | None = None,
    form: dict[str, Any] | None = None,
) -> GateSet:
    """Gates that change the stance on satire-marked claims and leave encyclopedia-marked ones and the rest alone."""
    data = positive_examples(seed=seed, n=n, domain=domain)
    gates = GateSet.identity(model, **{"seed": seed, **(form or {})})
    config = TrainConfig(seed=seed, epochs=epochs, lr=lr, objective="two-sided", kl_weight=kl_weight)
    train_gates(model, gates, data.examples, config, kept=data.kept, opposite=data.opposite)
    gates.history |= {"task": "satire-claims", "domain": domain or "all"}
    return gates
