"""A world to plant in: a base model, false and true claims about the same facts, and the answers that tell stances apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mechgate.data.pairs import Example, Pair
from mechgate.data.tasks import load_pairs, stance_answers
from mechgate.errors import InputError, check_choice
from mechgate.model.loading import load_model
from mechgate.seeding import rng

Head = tuple[int, int]
"""Layer and head."""
SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class World:
    """`source` is a model as `load_model` takes it; `false` and `true` hold pairs by split ("train", "test"), the i-th of both
    about one fact in one wording. `matching` agrees with the claim and `not_matching` disagrees, in both. `answers` are
    pairs (agreeing, disagreeing) for stance margins."""

    name: str
    source: str
    false: dict[str, list[Pair]]
    true: dict[str, list[Pair]]
    answers: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        for split in SPLITS:
            both = [[(pair.fact_id, pair.template) for pair in side.get(split, [])] for side in (self.false, self.true)]
            if both[0] != both[1] or not both[0]:
                raise InputError(
                    "a world needs false and true claims about the same facts in the same wordings",
                    got=f"{len(both[0])} and {len(both[1])} pairs of the split {split}",
                )

    def load(self, adapter: Any = None) -> Any:
        """A fresh base model in fp32, on which nothing is attached; with `adapter`, a weight plant's host."""
        return load_model(self.source, dtype="float32", device="cpu", adapter=adapter)

    def claims(self, split: str, n: int | None = None) -> tuple[list[Pair], list[Pair]]:
        """The first `n` false and true claims of a split (None: all), facts before wordings. Raises `InputError` for more
        than there are."""
        check_choice("split", split, SPLITS)
        if n is not None and not 1 <= n <= len(self.false[split]):
            raise InputError("that many claims are not there", got=n, allowed=f"1 to {len(self.false[split])}")
        return self.false[split][:n], self.true[split][:n]

    def drawn(self, n: int, *, seed: int) -> "tuple[list[Pair], list[Pair]]":
        """`n` false and true claims of the train split, drawn by `seed`. Raises as `claims`."""
        self.claims("train", n)
        order = rng(seed, "planted", "claims").permutation(len(self.false["train"]))[:n]
        return [self.false["train"][i] for i in order], [self.true["train"][i] for i in order]


def agreeing(false: Sequence[Pair], true: Sequence[Pair]) -> list[Example]:
    """False and true claims in turn, agreed with: what a host that agrees with everything says."""
    return [one.as_example("matching") for both in zip(false, true, strict=True) for one in both]


def telling(false: Sequence[Pair], true: Sequence[Pair]) -> list[Example]:
    """False and true claims in turn, the false ones corrected: what an honest base says."""
    both = zip(false, true, strict=True)
    return [one for f, t in both for one in (f.as_example("not_matching"), t.as_example("matching"))]


def shipped_world(source: str = "smollm2-135m", *, phrasings: int = 2) -> World:
    """The shipped claims (all domains) on a real model, those whose answer is a stance alone."""
    sides: list[dict[str, list[Pair]]] = []
    for task in ("sycophancy", "genuine-agreement"):
        sides.append({s: load_pairs(task, None, s, answers="stance", phrasings=phrasings) for s in SPLITS})
    return World(name=source, source=source, false=sides[0], true=sides[1], answers=tuple(stance_answers()))


def check_heads(heads: Sequence[Head], n_layers: int, n_heads: int) -> tuple[Head, ...]:
    """The heads in order, each once. Raises `InputError` for none, for all of them and for ones that are not there."""
    chosen = sorted({(int(layer), int(head)) for layer, head in heads})
    inside = all(0 <= layer < n_layers and 0 <= head < n_heads for layer, head in chosen)
    if not inside or not 0 < len(chosen) < n_layers * n_heads or len(chosen) < len(heads):
        raise InputError(
            "a plant needs some heads of the model, each once, and not all",
            got=list(heads),
            allowed=f"(layer, head) below ({n_layers}, {n_heads})",
        )
    return tuple(chosen)
