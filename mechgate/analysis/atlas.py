"""The atlas: in which heads are gates far from 1, where does a false claim change that, and which heads move the stance?

Tables have a row a fact, layer and head, means over the fact's phrasings; several gate sets of one recipe are seeds.
What each unit contributes to the stance margin is measured elsewhere and handed in. A map is only worth reading where
it comes back under another training seed, and beyond what gates that learned something else give: both are numbers here.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.model.prompts import Row, collate, length_buckets, prompt_ids
from mechgate.model.scoring import final_hidden
from mechgate.progress import track
from mechgate.seeding import rng
from mechgate.stats.multiplicity import max_t

MEASURED = ("size false", "size true", "signed false", "signed true")
TOP = (1, 5, 10, 20)
UNITS = {"size": "|g − 1|", "difference": "|g − 1|", "signed difference": "g − 1", "attribution": "nats"}
"""What the maps hold: each the mean over seeds and facts."""
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """A measure of heads by seed and fact: `values` [seeds, facts, layers, heads], and the names of its axes."""

    values: NDArray[np.float64]
    seeds: tuple[str, ...]
    facts: tuple[str, ...]
    layers: tuple[int, ...]


def head_activity(
    model: Any,
    gates: GateSet,
    pairs: Sequence[Pair],
    *,
    strength: float = 1.0,
    batch_size: int = 16,
    label: str | None = "gate activity",
) -> NDArray[np.float64]:
    """Mean |g - 1| and mean g - 1 of each head's units over a prompt's tokens: [n_pairs, n_layers, n_heads, 2].

    g is the trained gate's value whatever `strength` it works at, which decides what later layers read. The tokens are
    those from the user's last words to where the answer starts: what comes before is the same in every prompt.
    Raises `InputError` for no pairs and for gates with one value a layer.
    """
    if not pairs:
        raise InputError("there is nothing to measure", got="no pairs")
    prompts = [prompt_ids(model, pair.messages) for pair in pairs]
    starts = [_start(model, pair, ids) for pair, ids in zip(pairs, prompts, strict=True)]
    found = np.zeros((len(pairs), len(gates.layers), gates.shape.n_heads, 2))
    device = next(model.original_model.parameters()).device
    for indices in track(length_buckets(list(map(len, prompts)), batch_size), label):
        rows = [Row(prompt=prompts[i], answers=()) for i in indices]
        batch = dataclasses.replace(collate(rows, device), prefix=0)  # one pass, so that all tokens are seen at once
        seen: list[torch.Tensor] = []
        with torch.inference_mode(), gates.attached(model, strength, observe=seen.append):
            final_hidden(model, batch)
        for k, values in enumerate(seen):
            for row, i in enumerate(indices):
                own = gates.scale * values[row, starts[i] : len(prompts[i])].double().cpu().numpy()
                for j, one in enumerate((np.abs(own), own)):
                    found[i, k, :, j] = by_head(one.mean(axis=0), gates) / _units_a_head(gates)
    return found


def by_head(values: ArrayLike, gates: GateSet) -> NDArray[np.float64]:
    """Sums over each head's units: [..., units] -> [..., n_heads]. Raises `InputError` for gates without heads."""
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(*array.shape[:-1], gates.shape.n_heads, _units_a_head(gates)).sum(axis=-1)


def activity_rows(
    model: Any, gates: GateSet, false: Sequence[Pair], true: Sequence[Pair], *, strength: float = 1.0
) -> pd.DataFrame:
    """`head_activity` on false claims and on true ones about the same facts in the same wordings.

    Columns: fact, domain, layer, head, then size (|g - 1|) and signed (g - 1), each of false and of true claims.
    Raises `InputError` where a prompt has no counterpart.
    """
    keys = [sorted((pair.fact_id, pair.template) for pair in pairs) for pairs in (false, true)]
    if keys[0] != keys[1]:
        raise InputError(
            "false and true claims must be about the same facts in the same wordings",
            got=f"{len(false)} and {len(true)} prompts, {len(set(keys[0]) ^ set(keys[1]))} without a counterpart",
        )
    found = head_activity(model, gates, [*false, *true], strength=strength)
    tables = []
    for name, pairs, values in (("false", false, found[: len(false)]), ("true", true, found[len(false) :])):
        both = [head_rows(values[..., j], gates, pairs, f"{what} {name}") for j, what in enumerate(("size", "signed"))]
        tables.append(both[0].merge(both[1], validate="one_to_one"))
    return tables[0].merge(tables[1], validate="one_to_one")


def head_rows(values: ArrayLike, gates: GateSet, pairs: Sequence[Pair], column: str = "attribution") -> pd.DataFrame:
    """A table of `values` [n_pairs, n_layers, n_heads]: fact, domain, layer, head and `column`, means over phrasings.

    Raises `InputError` for another shape.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(pairs), len(gates.layers), gates.shape.n_heads) or not pairs:
        raise InputError(
            "the values are of another shape",
            got=array.shape,
            allowed=f"[{len(pairs)} pairs, {len(gates.layers)} layers, {gates.shape.n_heads} heads]",
        )
    domains = {pair.fact_id: pair.domain for pair in pairs}
    facts = sorted(domains)
    means = [array[[pair.fact_id == fact for pair in pairs]].mean(axis=0) for fact in facts]
    index = pd.MultiIndex.from_product([facts, gates.layers, range(array.shape[2])], names=["fact", "layer", "head"])
    table = pd.DataFrame({column: np.ravel(means)}, index=index).reset_index()
    table.insert(1, "domain", table["fact"].map(domains))
    return table


def maps_of(rows: pd.DataFrame, values: ArrayLike) -> Maps:
    """`values`, one a row of `rows` (with seed, fact, layer, head), as maps. Raises `InputError` for cells that are
    missing, doubled or not finite."""
    keys = ["seed", "fact", "layer", "head"]
    names = [sorted(rows[key].unique().tolist()) for key in keys]
    index = pd.MultiIndex.from_frame(rows[keys])
    size = [len(found) for found in names]
    if index.has_duplicates or len(index) != np.prod(size) or not len(index):
        raise InputError(
            "every seed and fact needs every head once",
            got=f"{len(index)} rows, {int(index.duplicated().sum())} of them doubled",
            allowed=f"{size[0]} seeds x {size[1]} facts x {size[2]} layers x {size[3]} heads",
        )
    series = pd.Series(np.asarray(values, dtype=np.float64), index=index).sort_index()
    if not np.isfinite(series.to_numpy()).all():
        raise InputError("maps must be finite", got=f"{int((~np.isfinite(series)).sum())} cells that are not")
    seeds, facts, layers, _ = names
    return Maps(
        values=np.asarray(series, dtype=np.float64).reshape(size),
        seeds=tuple(map(str, seeds)),
        facts=tuple(facts),
        layers=tuple(layers),
    )


def atlas_numbers(
    activity: pd.DataFrame,
    attribution: pd.DataFrame,
    *,
    others: pd.DataFrame | None = None,
    top: Sequence[int] = TOP,
    seed: int = 0,
    draws: int = 10_000,
) -> dict[str, Any]:
    """All that is known of the maps, as plain JSON values.

    `activity` are rows of `activity_rows`, `attribution` of `head_rows`, each with a column seed; `others` are as
    `attribution`, of gates that did not learn the behaviour, with a column family (a null family, or what a control
    learned). Of each map of `UNITS`: `values` [layers][heads]; but for size, a max-T test over facts of the mean over
    seeds, `t` and `p`; how far seeds agree (Spearman); the share of all |values| in the top k heads. The same of each
    family of `others`, with its agreement with the learned map, and the test of learned minus family.
    """
    columns = {name: activity[name].to_numpy() for name in MEASURED}
    size = (columns["size false"] + columns["size true"]) / 2
    maps = {
        "size": maps_of(activity, size),
        "difference": maps_of(activity, _minus(columns["size false"], columns["size true"])),
        "signed difference": maps_of(activity, _minus(columns["signed false"], columns["signed true"])),
        "attribution": maps_of(attribution, attribution["attribution"]),
    }
    found: dict[str, Any] = {
        name: _described(one, top, seed, draws if name != "size" else None) | {"unit": UNITS[name]}
        for name, one in maps.items()
    }
    learned = maps["attribution"]
    numbers = {"maps": found, "layers": list(learned.layers), "seeds": list(learned.seeds), "n": len(learned.facts)}
    families = [] if others is None else others.groupby("family", sort=True)
    numbers["others"] = {
        str(name): _compared(learned, maps_of(rows, rows["attribution"]), top, seed, draws) for name, rows in families
    }
    return numbers


def agreement(maps: Maps, other: Maps | None = None) -> dict[str, Any]:
    """Spearman's correlation over heads of the facts' mean maps: between all pairs of seeds, or of every seed with
    every one of `other`. `mean`, `low` and `high` (the range) over `pairs`; None where no pair of maps varies."""
    own = [np.ravel(seed.mean(axis=0)) for seed in maps.values]
    theirs = None if other is None else [np.ravel(seed.mean(axis=0)) for seed in other.values]
    pairs = list(itertools.combinations(own, 2) if theirs is None else itertools.product(own, theirs))
    r = [float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]) for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0]
    ends = (float(np.mean(r)), min(r), max(r)) if r else (None, None, None)
    return dict(zip(("mean", "low", "high"), ends, strict=True)) | {"pairs": len(r)}


def top_shares(maps: Maps, top: Sequence[int] = TOP, *, seed: int = 0) -> list[dict[str, Any]]:
    """Share of the sum of |values| over heads that the `top` k heads hold: of the mean map, and, since the largest of
    many noisy numbers are large anyway, of heads chosen on a random half of the facts and counted on the other, and
    chosen on the other seeds (None with one seed). `even`: k heads of a flat map. Raises `InputError` for unusable k.
    """
    n_heads = int(np.prod(maps.values.shape[2:]))
    if not top or min(top) < 1 or max(top) > n_heads:
        raise InputError("so many heads cannot be chosen", got=list(top), allowed=f"1 to {n_heads}")
    order = rng(seed, "halves of facts").permutation(len(maps.facts))
    halves = [maps.values[:, part].mean(axis=(0, 1)) for part in np.array_split(order, 2) if part.size]
    by_seed = maps.values.mean(axis=1)
    splits = [(halves[a], halves[b]) for a, b in ((0, 1), (1, 0))] if len(halves) == 2 else []
    seeds = [(np.delete(by_seed, i, axis=0).mean(axis=0), one) for i, one in enumerate(by_seed) if len(by_seed) > 1]
    whole = by_seed.mean(axis=0)
    return [
        {
            "k": k,
            "share": _share(whole, whole, k),
            "on other facts": float(np.mean([_share(*both, k) for both in splits])) if splits else None,
            "on other seeds": float(np.mean([_share(*both, k) for both in seeds])) if seeds else None,
            "even": k / n_heads,
        }
        for k in top
    ]


def _described(maps: Maps, top: Sequence[int], seed: int, draws: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "values": maps.values.mean(axis=(0, 1)).tolist(),
        "sum": float(maps.values.mean(axis=(0, 1)).sum()),
        "between seeds": agreement(maps),
        "top": top_shares(maps, [k for k in top if k <= np.prod(maps.values.shape[2:])], seed=seed),
    }
    return found | ({} if draws is None else max_t(maps.values.mean(axis=0), seed=seed, draws=draws).to_json())


def _compared(learned: Maps, other: Maps, top: Sequence[int], seed: int, draws: int) -> dict[str, Any]:
    if (learned.facts, learned.layers) != (other.facts, other.layers):
        raise InputError("learned and other gates must be asked on the same facts and layers")
    difference = max_t(learned.values.mean(axis=0) - other.values.mean(axis=0), seed=seed, draws=draws)
    described = _described(other, top, seed, draws) | {"draws of gates": len(other.seeds)}
    return described | {"with learned": agreement(learned, other), "learned minus this": difference.to_json()}


def _share(chooser: NDArray[np.float64], counted: NDArray[np.float64], k: int) -> float:
    best = np.argsort(-np.abs(chooser), axis=None, kind="stable")[:k]
    total = np.abs(counted).sum()
    return float(np.abs(counted).ravel()[best].sum() / total) if total else 0.0


def _minus(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference; 0 where it is rounding (static gates have the same mean over any tokens)."""
    difference = one - other
    return np.where(np.abs(difference) <= _ROUNDING * np.abs(one), 0.0, difference)


def _units_a_head(gates: GateSet) -> int:
    if gates.granularity == "layer":
        raise InputError("gates with one value a layer have no map of heads", got=repr(gates))
    return gates.shape.d_head if gates.granularity == "element" else 1


def _start(model: Any, pair: Pair, ids: tuple[int, ...]) -> int:
    """The first token of the prompt that depends on the user's last words."""
    other = prompt_ids(model, [*pair.messages[:-1], {"role": "user", "content": "?"}])
    return next((i for i, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b), len(ids) - 1)
