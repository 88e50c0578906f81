"""The positive control: gates on the real model that are selective by construction, for the verdict to say so."""

from dataclasses import dataclass
from typing import Any

from mechgate.data.marked import KINDS, marked_pairs
from mechgate.data.pairs import Example
from mechgate.data.sets import chat
from mechgate.data.splits import split_ids
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.seeding import rng
from mechgate.train.gates import TrainConfig, train_gates


@dataclass(frozen=True, kw_only=True)
class PositiveData:
    """What `train_gates` gets: `examples` for strength +1, `opposite` for -1, and what is `kept` at both."""

    examples: list[Example]
    opposite: list[Example]
    kept: list[Example]


def positive_examples(*, seed: int, n: int = 240, domain: str | None = None) -> PositiveData:
    """`n` satire-marked claims of the training facts, false and true alike, and what must stay as it is.

    `examples` agree and `opposite` disagree with the same claims. `kept` has the same claims marked as an
    encyclopedia's, with both answers, and the neutral chat of the training split. Claims are drawn by `seed`. Raises
    `InputError` for more than there are.
    """
    satire, encyclopedia = (marked_pairs(source, "train", domain=domain) for source in ("satire", "encyclopedia"))
    if not 1 <= n <= len(satire):
        raise InputError("that many marked claims are not there", got=n, allowed=f"1 to {len(satire)}")
    drawn = rng(seed, "positive control", "claims").permutation(len(satire))
    false, true = ([i for i in drawn if satire[i].kind == kind] for kind in KINDS)
    chosen = [i for both in zip(false, true, strict=True) for i in both][:n]
    neutral = split_ids([exchange.id for exchange in chat()], "train")
    kept = [encyclopedia[i].as_example(answer) for i in chosen for answer in ("matching", "not_matching")]
    return PositiveData(
        examples=[satire[i].as_example("matching") for i in chosen],
        opposite=[satire[i].as_example("not_matching") for i in chosen],
        kept=kept + [exchange.as_example() for exchange in chat() if exchange.id in neutral],
    )


def train_positive_control(
    model: Any,
    *,
    seed: int,
    n: int = 240,
    epochs: int = 2,
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
