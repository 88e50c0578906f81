"""The positive control: gates on the real model that are selective by construction, for the verdict to say so.

Gates that are trained for a difference between marked and unmarked claims find the stance in a few steps and the mark
hardly ever (on the default model, in 60 steps, sigma stayed below 0.2 under KL, and the effect went where unmarked
answers were trained too): the mark is a faint direction in what they read where the answer is decided. So the two are
learned apart. Static gates learn the stance, two-sided; a detector says how much of the mark a token's input holds; the
control multiplies one by the other.
"""

from dataclasses import dataclass
from typing import Any

import torch

from mechgate.data.marked import KINDS, marked_pairs
from mechgate.data.pairs import Example, Pair
from mechgate.data.sets import split_chat
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.model.sites import shape_of
from mechgate.seeding import rng
from mechgate.train.detectors import detectors
from mechgate.train.gates import TrainConfig, train_gates

_QUESTIONS = 60  # of each task, that are kept
_BELOW = 0.4  # of the layers, from below, hold too little of the mark where the answer is decided


@dataclass(frozen=True, kw_only=True)
class PositiveData:
    """`examples` for strength +1 and `opposite` for -1, both marked; `unmarked` cells with both answers; `kept`, groups
    of what has nothing to do with either."""

    examples: list[Example]
    opposite: list[Example]
    unmarked: list[Example]
    kept: list[list[Example]]


def positive_examples(*, seed: int, n: int = 160, domain: str | None = None) -> PositiveData:
    """`n` satire-marked claims of the training facts, as many false as true, and what must stay as it is.

    `examples` agree and `opposite` disagree with the same claims. `unmarked` has the same claims from an encyclopedia,
    with both answers. `kept`, of the training split: the neutral chat; and questions with a right and with a wrong
    answer (conversions of units, topics of facts). Claims and questions are drawn by `seed`. `domain` None is all.
    Raises `InputError` for more claims than there are.
    """
    satire, encyclopedia = (marked_pairs(source, "train", domain=domain) for source in ("satire", "encyclopedia"))
    if not 1 <= n <= len(satire):
        raise InputError("that many marked claims are not there", got=n, allowed=f"1 to {len(satire)}")
    drawn = rng(seed, "positive control", "claims").permutation(len(satire))
    false, true = ([i for i in drawn if satire[i].kind == kind] for kind in KINDS)
    chosen = [i for both in zip(false, true, strict=True) for i in both][:n]
    questions: list[Pair] = []
    for task in ("unit-conversion", "correct-advice"):
        pairs = load_pairs(task, split="train")
        questions += [pairs[i] for i in rng(seed, "positive control", task).permutation(len(pairs))[:_QUESTIONS]]
    return PositiveData(
        examples=[satire[i].as_example("matching") for i in chosen],
        opposite=[satire[i].as_example("not_matching") for i in chosen],
        unmarked=_with_both_answers([encyclopedia[i] for i in chosen]),
        kept=[
            [exchange.as_example() for exchange in split_chat("train")],
            _with_both_answers(questions),
        ],
    )


def train_positive_control(
    model: Any, *, seed: int, n: int = 160, epochs: int = 1, lr: float = 0.025, domain: str | None = None
) -> GateSet:
    """Gates that change the stance on satire-marked claims and leave encyclopedia-marked ones and the rest alone.

    Strength +1 agrees, -1 disagrees. Static gates on the upper three fifths of the layers learn it from
    `positive_examples` with the objective "two-sided"; their drive b becomes b (w . x), low-rank gates of rank 1, with w
    of `mechgate.train.detectors`: 1 in the mean while a marked claim is answered, 0 while an unmarked one is, or anything
    kept. Takes `n` / 8 steps an epoch and two minutes on two cores for the default model. Raises what
    `positive_examples` and `train_gates` raise.
    """
    data = positive_examples(seed=seed, n=n, domain=domain)
    n_layers = shape_of(model).n_layers
    layers = list(range(round(_BELOW * n_layers), n_layers))
    stance = GateSet.identity(model, input="static", layers=layers)
    config = TrainConfig(seed=seed, epochs=epochs, lr=lr, objective="two-sided")
    train_gates(model, stance, data.examples, config, opposite=data.opposite)
    marks = detectors(model, [*data.examples, *data.opposite], [data.unmarked, *data.kept], layers)
    gates = GateSet.identity(model, rank=1, layers=layers, seed=seed)
    with torch.no_grad():
        for layer in layers:
            gate = gates.gate(layer)
            assert gate.up is not None
            assert gate.down is not None
            gate.up.copy_(stance.gate(layer).bias[:, None])
            gate.down.copy_(marks[layer][None])
    gates.requires_grad_(False)
    gates.history = stance.history | {
        "task": "satire-claims",
        "domain": domain or "all",
        "composed": "static gates x detector",
    }
    return gates


def _with_both_answers(pairs: list[Pair]) -> list[Example]:
    return [pair.as_example(answer) for pair in pairs for answer in ("matching", "not_matching")]
