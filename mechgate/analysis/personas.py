"""Do gates write along a persona vector, or read it? Cosines by layer beside their nulls, and what may be said of them.

Two nulls of the vector: Gaussian directions with the activations' covariance, and the vector's own rows with their
labels exchanged (for and against the trait). Null gates beside the gates are the third: what any gate of that size
does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechgate.errors import InputError
from mechgate.stats.directions import (
    against_null,
    cosine_interval,
    cosines,
    gaussian_weights,
    in_span,
    label_weights,
    null_cosines,
    share_along,
    split_half,
)
from mechgate.stats.multiplicity import holm

ALPHA = 0.05
LEAST_RELIABLE = 0.5
"""A vector whose halves (of questions, of system messages) agree less than this at the place of a claim supports none."""
NULLS = ("gaussian", "labels")
KINDS = ("misbehaviour", "unrelated", "host")


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """A vector as the rows it is the mean of: a trait's (for minus against), or a host's (host minus base).

    `write` [n, layers, d], what each block leaves in the residual stream, by variant, the first being what claims are
    about; `read` [n, layers, d], what each block's gate reads. `groups` [n] by name: rows that go together when the
    vector is halved. `kind` is one of `KINDS`. `steers`: whether it moved what it is named after on held-out questions,
    None if that was not asked. Raises `InputError` for shapes that do not fit.
    """

    name: str
    kind: str
    write: Mapping[str, NDArray]
    read: NDArray
    groups: Mapping[str, NDArray] = field(default_factory=dict)
    steers: bool | None = None

    def __post_init__(self) -> None:
        if not self.write or any(rows.shape != self.read.shape for rows in self.write.values()) or self.read.ndim != 3:
            shapes = {variant: rows.shape for variant, rows in self.write.items()}
            raise InputError(
                f"the rows of {self.name} do not fit", got=f"{shapes}, read {self.read.shape}", allowed="[n, layers, d]"
            )

    @property
    def variant(self) -> str:
        return next(iter(self.write))

    def units(self, rows: NDArray) -> NDArray[np.float64]:
        """Rows of one question together, so that labels are exchanged by question: [questions, layers, d], of the same mean."""
        names, at = np.unique(self.groups.get("questions", np.arange(len(rows))), return_inverse=True)
        sums = np.zeros((len(names), *rows.shape[1:]))
        np.add.at(sums, at, rows.astype(np.float64))
        return sums * (len(names) / len(rows))

    def described(self, *, seed: int) -> dict[str, Any]:
        """Kind, rows, length a layer, and the median cosine of halves by each grouping, for each variant and what is read."""
        found: dict[str, Any] = {"kind": self.kind, "rows": len(self.read), "steers": self.steers, "variants": {}}
        for variant, rows in (*self.write.items(), ("read", self.read)):
            halves = {
                name: np.median(split_half(rows, groups, seed=seed), axis=0).tolist()
                for name, groups in self.groups.items()
            }
            size = np.linalg.norm(rows.mean(axis=0, dtype=np.float64), axis=-1)
            found["variants"][variant] = {"length": size.tolist(), "split-half": halves}
        found["read"] = found["variants"].pop("read")
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Nulls:
    """What null directions are drawn from: `write` and `read` [rows, layers, d], activations at the same places."""

    write: NDArray
    read: NDArray
    draws: int
    seed: int


def write_side(
    moved: NDArray, directions: Sequence[Direction], nulls: Nulls | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """How displacements `moved` [facts, layers, d] (gated minus base) lie to each direction, by its name and variant.

    `value`, `low`, `high` [layers]: cosine of the mean displacement, bootstrapped by fact; `share` [layers] of the
    squared displacement along the direction; with `nulls`, each null's `p`, `p_any` and `band`
    (`stats.directions.against_null`).
    """
    mean = moved.mean(axis=0, dtype=np.float64)
    random: NDArray | None = None
    if nulls is not None:
        random = null_cosines(mean, nulls.write, gaussian_weights(len(nulls.write), nulls.draws, seed=nulls.seed))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for one in directions:
        for variant, rows in one.write.items():
            vector = rows.mean(axis=0, dtype=np.float64)
            seed = 0 if nulls is None else nulls.seed
            entry: dict[str, Any] = dict(cosine_interval(moved, vector, seed=seed))
            entry["share"] = share_along(moved, vector).tolist()
            if nulls is not None and random is not None:
                units = one.units(rows)
                weights = label_weights(len(units), nulls.draws, seed=nulls.seed)
                drawn = {"gaussian": random, "labels": null_cosines(mean, units, weights)}
                entry |= {name: against_null(cosines(vector, mean), null).to_json() for name, null in drawn.items()}
            found.setdefault(one.name, {})[variant] = entry
    return found


def read_side(
    bases: Mapping[int, NDArray], directions: Sequence[Direction], nulls: Nulls | None
) -> dict[str, dict[str, Any]]:
    """The share of each direction's length inside what gates read: `value` [layers], by the direction's name.

    `bases` are W's top right-singular vectors by layer (`gates.reading.read_directions`); a layer without any has 0.
    With `nulls` as `write_side`.
    """
    n_layers, d = directions[0].read.shape[1:]
    spans = [bases.get(layer, np.zeros((0, d))) for layer in range(n_layers)]
    random: NDArray | None = None
    if nulls is not None:
        weights = gaussian_weights(len(nulls.read), nulls.draws, seed=nulls.seed)
        random = null_cosines(spans, nulls.read, weights, spans=True)
    found: dict[str, dict[str, Any]] = {}
    for one in directions:
        vector = one.read.mean(axis=0, dtype=np.float64)
        value = np.array([in_span(basis, v) for basis, v in zip(spans, vector, strict=True)])
        entry: dict[str, Any] = {"value": value.tolist()}
        if nulls is not None and random is not None:
            units = one.units(one.read)
            weights = label_weights(len(units), nulls.draws, seed=nulls.seed)
            drawn = {"gaussian": random, "labels": null_cosines(spans, units, weights, spans=True)}
            entry |= {name: against_null(value, null).to_json() for name, null in drawn.items()}
        found[one.name] = entry
    return found


def verdicts(
    found: Mapping[str, Mapping[str, Any]],
    described: Mapping[str, Mapping[str, Any]],
    others: Sequence[Mapping[str, Mapping[str, Any]]],
    *,
    side: str = "write",
) -> dict[str, dict[str, Any]]:
    """What may be said of one gate set, by direction: is it aligned with it?

    `found` is a curve with its nulls for each direction; `described` says what is known of it (`Direction.described`);
    `others` are the same curves of null gates. "aligned": beyond both nulls (the larger p, Holm over directions, at
    most .05) and, at its most unusual layer, of larger size than every null gate's there; "aligned, not specifically" if
    it is no larger there than some unrelated trait's. "cannot be told" where the vector's halves (by any grouping)
    disagree, or it does not steer.
    """
    whole = holm({name: max(curve[null]["p_any"] for null in NULLS) for name, curve in found.items()})
    result: dict[str, dict[str, Any]] = {}
    for name, curve in found.items():
        sizes = np.abs(curve["value"])
        p = np.maximum(curve["gaussian"]["p"], curve["labels"]["p"])
        place = int(np.lexsort((-sizes, p))[0])
        rivals = {
            other: float(np.abs(entry["value"][place]))
            for other, entry in found.items()
            if other != name and described[other]["kind"] == "unrelated"
        }
        beside = [float(np.abs(one[name]["value"][place])) for one in others]
        why = _unfit(described[name], place, side)
        beyond = whole[name] <= ALPHA and all(sizes[place] > size for size in beside)
        specific = all(sizes[place] > size for size in rivals.values())
        verdict = ("aligned" if specific else "aligned, not specifically") if beyond else "not aligned"
        result[name] = {
            "verdict": "cannot be told" if why else verdict,
            "why": why,
            "layer": place,
            "value": float(curve["value"][place]),
            "p": whole[name],
            "largest null gate": max(beside, default=None),
            "largest unrelated": max(rivals.values(), default=None),
        }
    return result


def _unfit(described: Mapping[str, Any], place: int, side: str) -> str:
    """Why a vector supports no claim at a place; empty if it does."""
    first = described["read"] if side == "read" else next(iter(described["variants"].values()))
    halves = {name: values[place] for name, values in first["split-half"].items()}
    worst = min(halves, key=lambda name: halves[name], default=None)
    if worst is not None and halves[worst] < LEAST_RELIABLE:
        return f"halves of the {worst} give vectors of cosine {halves[worst]:.2f}"
    return "the vector does not steer" if described["steers"] is False else ""
