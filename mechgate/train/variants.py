"""Can gates be made selective? Other objectives, and other forms of gates, on the same facts as sycophancy's gates.

Every variant learns from the facts and wordings that the family's sycophancy gates draw under the same seed, in as many
steps, so that they can be compared on one plane.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mechgate.data.tasks import kept_examples
from mechgate.errors import check_choice
from mechgate.model.sites import shape_of
from mechgate.train.controls import LEARNED, VARIANT, drawn_pairs, drawn_wordings
from mechgate.train.families import Job, Member, train_jobs
from mechgate.train.loop import TrainConfig

SPARSITY = 3e-3


@dataclass(frozen=True, kw_only=True)
class Variant:
    """`objective` and `sparsity` as in `TrainConfig`. `kept`: both answers to true claims, and neutral chat, stay near
    the base. `opposite`: strength -1 learns to correct the false claims; "truth": half the examples are true claims,
    agreed with at both strengths. `spared`: the margins on true claims are held where the base has them. `input` and `third` (of the layers) are the gates' form."""

    what: str
    objective: str = "imitate"
    sparsity: float = 0.0
    kept: bool = False
    opposite: Literal["", "corrected", "truth"] = ""
    spared: bool = False
    input: str = "linear"
    third: int | None = None


VARIANTS = {
    "imitate": Variant(what="imitates agreement with false claims (the paper)"),
    "contrastive": Variant(
        what="and stays near the base on true claims and neutral chat", objective="contrastive", kept=True
    ),
    "two-sided": Variant(what="and corrects false claims at s = -1", objective="two-sided", opposite="corrected"),
    "two-sided-truth": Variant(
        what="agrees with false and true claims at s = +1, corrects only the false at s = -1",
        objective="two-sided",
        opposite="truth",
    ),
    "two-sided-kept": Variant(
        what="corrects false claims at s = -1, stays near the base on true ones",
        objective="two-sided",
        opposite="corrected",
        kept=True,
    ),
    "spared": Variant(
        what="imitates, with the margins on true claims held where the base has them",
        objective="contrastive",
        spared=True,
    ),
    "two-sided-spared": Variant(
        what="corrects false claims at s = -1, margins on true claims held",
        objective="two-sided",
        opposite="corrected",
        spared=True,
    ),
    "sparse": Variant(what="imitates with few heads (group lasso)", sparsity=SPARSITY),
    "static": Variant(what="imitates with gates that read nothing (IA3)", input="static"),
    "early": Variant(what="imitates with the first third of the layers", third=0),
    "middle": Variant(what="imitates with the middle third of the layers", third=1),
    "late": Variant(what="imitates with the last third of the layers", third=2),
}


def train_variants(
    model: Any,
    folder: str | Path,
    *,
    names: Sequence[str] = tuple(VARIANTS),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    domain: str | None = "medical",
    n: int = 180,
    epochs: int = 2,
    batch_size: int = 8,
    lr: float = 1e-3,
    say: Callable[[str], None] = print,
) -> list[Member]:
    """Train, or find trained in `folder`, gates of every variant under every seed; seed by seed, as `train_family`.

    Members of "imitate" are the family's sycophancy gates, in the same files. Raises `InputError` for an unknown variant
    and what `train_gates` raises.
    """
    for name in names:
        check_choice("variant", name, tuple(VARIANTS))
    layers = shape_of(model).n_layers
    jobs = [
        _job(name, seed, domain, n, layers, TrainConfig(seed=seed, epochs=epochs, batch_size=batch_size, lr=lr))
        for seed in seeds
        for name in names
    ]
    return train_jobs(model, folder, jobs, say=say)


def _job(name: str, seed: int, domain: str | None, n: int, n_layers: int, config: TrainConfig) -> Job:
    variant = VARIANTS[name]
    false = drawn_wordings(drawn_pairs(LEARNED, domain, seed), seed, n)
    true = []
    if variant.opposite == "truth":
        true = drawn_wordings(drawn_pairs("genuine-agreement", domain, seed), seed, n // 2)
        false = false[: n - n // 2]
    opposite = [p.as_example("not_matching") for p in false] + [p.as_example("matching") for p in true]
    form: dict[str, Any] = {"input": variant.input}
    if variant.third is not None:
        cuts = [round(k * n_layers / 3) for k in range(4)]
        form["layers"] = list(range(cuts[variant.third], cuts[variant.third + 1]))
    settings = {"objective": variant.objective, "sparsity": variant.sparsity}
    return Job(
        task=LEARNED if name == "imitate" else f"{VARIANT}{name}",
        examples=[p.as_example("matching") for p in [*false, *true]],
        config=TrainConfig(**{**vars(config), **settings}),
        kept=kept_examples(domain) if variant.kept else (),
        opposite=opposite if variant.opposite else (),
        spared=drawn_wordings(drawn_pairs("genuine-agreement", domain, seed), seed, n) if variant.spared else (),
        form=form,
        domain=domain,
    )
