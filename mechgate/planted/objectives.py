"""Gates of each objective, trained where a behaviour was planted, and read at the strength at which they take it away."""

from collections.abc import Sequence
from dataclasses import replace

from mechgate.data.pairs import Pair
from mechgate.errors import check_choice
from mechgate.gates.gateset import GateSet
from mechgate.planted.world import agreeing, telling
from mechgate.train.gates import train_gates
from mechgate.train.loop import TrainConfig

OBJECTIVES = {
    "corrected": "imitates, at s = −1, answers without the behaviour",
    "contrastive": "the same on false claims alone, KL to the model on true ones",
    "two-sided": "answers with the behaviour at s = +1, without it at s = −1",
    "sparse": "corrected, with a group lasso over heads",
    "base-trained": "imitates answers with the behaviour, in the base model (s = +1)",
}
SPARSITY = 0.03


def trained_gates(
    model: object,
    objective: str,
    false: Sequence[Pair],
    true: Sequence[Pair],
    config: TrainConfig,
    *,
    agrees: bool = True,
) -> tuple[GateSet, float]:
    """Gates on all heads of `model`, and the strength at which to read them (`OBJECTIVES`).

    The behaviour is to agree with false claims, or (`agrees` False) to tell false from true ones; in either case gates take it away
    at s = -1, except "base-trained" ones, which bring it about at s = +1. Their s = -1 is trained directly: gates that learn at
    +1 what -1 should do, negated. Raises `InputError` for another objective, and what `train_gates` raises.
    """
    check_choice("objective", objective, tuple(OBJECTIVES))
    shown, without = agreeing(false, true), telling(false, true)
    if not agrees:
        shown, without = without, shown
    gates = GateSet.identity(model, seed=config.seed)
    if objective == "base-trained":
        train_gates(model, gates, shown, config)
        return gates, 1.0
    if objective == "two-sided":
        train_gates(model, gates, shown, replace(config, objective="two-sided"), opposite=without)
        return gates, -1.0
    if objective == "contrastive":  # pairs take turns: false claims are the even ones
        train_gates(model, gates, without[::2], replace(config, objective="contrastive"), kept=without[1::2])
    else:
        train_gates(model, gates, without, replace(config, sparsity=SPARSITY if objective == "sparse" else 0.0))
    return gates.negated(), -1.0
