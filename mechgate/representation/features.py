"""Do gates move the sparse features that mark unsafe prompts? An SAE's latents, chosen and compared on disjoint facts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mechgate.analysis.latents import Chosen, chosen_latents, effect_share, overlaps
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.features import LatentDial, Sae, top_contexts
from mechgate.representation.feature_tables import TRUTH, FeatureSettings, FeatureTables
from mechgate.seeding import rng
from mechgate.stages import Stages
from mechgate.stats.estimates import Estimate, bootstrap_mean
from mechgate.stats.hierarchical import hierarchical_bootstrap
from mechgate.stats.overlap import alike, by_cluster, strata
from mechgate.stats.permutation import p_from_null

QUESTION = "Do the gates move the sparse features that tell unsafe from safe prompts, or that misaligned hosts raise?"
HIGHEST_FVU, LEAST_RECOVERED = 0.35, 0.90
"""An SAE that leaves more variance, or keeps less of the loss, on gated activations supports no claim."""


def features(
    model: Any,
    gates: Mapping[str, GateSet],
    saes: Mapping[str, Sae],
    *,
    hosts: Mapping[str, Any] | None = None,
    controls: Mapping[str, GateSet] | None = None,
    settings: FeatureSettings | None = None,
    folder: str | Path,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Numbers of the overlap, as plain JSON values; tables are kept in `folder` and reused while nothing changes.

    `gates`: seeds of one recipe. `saes`: the first is the one that claims are about; others (a second seed, a frozen
    decoder) are asked the same. `hosts`: models of the same shape that misbehave; the latents they raise on false claims
    are a second set. `controls`: other gates, asked like the learned ones beside row-sign nulls of the first set.

    `saes.<name>`: `quality` of the base and under each gate set, `marked` (how many latents separate false from true
    claims, or a host from the base), `moved` by each gate set, and `overlap` of both; `latents` (moved, marked, contexts)
    and `ablation` for the first. Raises `InputError` for no gates or SAEs and fewer than 32 facts.
    """
    chosen = settings or FeatureSettings()
    if not gates or not saes:
        raise InputError("feature overlap needs gates and an SAE", got=f"{len(gates)} gate sets, {len(saes)} SAEs")
    desk = FeatureTables(model, gates, dict(hosts or {}), dict(controls or {}), chosen, Stages(folder, say))
    numbers: dict[str, Any] = {"settings": chosen.model_dump(mode="json"), "facts": len(desk.false), "saes": {}}
    numbers["gates"], numbers["others"] = list(gates), [n for n in desk.arms if n not in ("base", *gates)]
    for name, sae in saes.items():
        numbers["saes"][name] = _overlap(desk, name, sae, first=name == next(iter(saes)))
    return numbers


def _overlap(tables: FeatureTables, name: str, sae: Sae, *, first: bool) -> dict[str, Any]:
    """Everything about one SAE."""
    s = tables.settings
    quality = {arm: tables.quality(name, sae, arm) for arm in ("base", *tables.gates)}
    rates, decoder = tables.rates(name, sae), sae.decoder
    living = np.flatnonzero((rates > 0) & (np.linalg.norm(decoder, axis=1) > 0))
    clusters = alike(decoder[living])
    groups = strata(
        by_cluster(rates[living], clusters, how="mean"),
        by_cluster(np.linalg.norm(decoder[living], axis=1), clusters, how="mean"),
    )
    marked = {
        kind: chosen_latents(difference[:, living], seed=s.seed) for kind, difference in tables.marks(name, sae).items()
    }
    moved = {
        arm: chosen_latents(tables.values(name, sae, arm, "false", "moved")[:, living] - base, seed=s.seed)
        for base in [tables.values(name, sae, "base", "false", "moved")[:, living]]
        for arm in tables.arms
        if arm != "base"
    }
    table = {
        arm: {
            kind: {
                key: None if value is None else value.to_json()
                for key, value in overlaps(
                    one, mark, decoder[living], clusters, groups, seed=s.seed, draws=s.permutations
                ).items()
            }
            for kind, mark in marked.items()
        }
        for arm, one in moved.items()
    }
    sound = all(q["fvu"] <= HIGHEST_FVU and q["loss recovered"] >= LEAST_RECOVERED for q in quality.values())
    found: dict[str, Any] = {
        "layer": sae.layer,
        "from": sae.name,
        "hash": sae.hash,
        "quality": quality,
        "sound": sound,
        "latents": sae.n_latents,
        "living": len(living),
        "clusters": int(clusters.max()) + 1,
        "marked": {kind: _counts(one) for kind, one in marked.items()},
        "moved": {arm: _counts(one) for arm, one in moved.items()},
        "overlap": table,
    }
    if first:
        own = next(iter(tables.gates))
        both = moved[own].chosen & marked[TRUTH].chosen
        found["scatter"] = _scatter(living, moved[own], marked[TRUTH])
        found["shared"] = _shared(tables, sae, living[both], moved[own].effect[both], marked[TRUTH].effect[both])
        found["ablation"] = _ablation(tables, name, sae, living, both, clusters, groups)
    return found


def _shared(
    tables: FeatureTables, sae: Sae, latents: np.ndarray, moved: np.ndarray, marks: np.ndarray
) -> list[dict[str, Any]]:
    """The latents of both sets, the most moved first, with where they are active."""
    order = np.argsort(-np.abs(moved))[:20]
    contexts = top_contexts(tables.model, sae, tables.texts, latents[order].tolist())
    return [
        {
            "latent": int(latents[i]),
            "moved": float(moved[i]),
            "false minus true": float(marks[i]),
            "contexts": [asdict(context) for context in contexts[int(latents[i])]],
        }
        for i in order
    ]


def _ablation(
    tables: FeatureTables,
    name: str,
    sae: Sae,
    living: np.ndarray,
    both: np.ndarray,
    clusters: np.ndarray,
    groups: np.ndarray,
) -> dict[str, Any] | None:
    """What of the first gate set's effect on false claims goes when the shared latents are ablated, in the base and
    under the gates alike, against sets of as many latents of the same strata. None where nothing is shared."""
    if not both.any():
        return None
    s, own = tables.settings, next(iter(tables.gates))
    pairs = [tables.false[tables.place[fact]] for fact in tables.facts["marked"]]
    stratum = groups[clusters]
    stream = rng(s.seed, "features", "ablation")
    sets = [both]
    for _ in range(s.ablations):
        drawn = np.zeros_like(both)
        for k in np.unique(stratum[both]):
            inside = np.flatnonzero(stratum == k)
            drawn[stream.choice(inside, int(both[inside].sum()), replace=False)] = True
        sets.append(drawn)

    def make(path: Path) -> None:
        plain = tables.margins(pairs, own, None)
        shares = [
            effect_share(plain, tables.margins(pairs, own, LatentDial(sae=sae, latents=tuple(living[one].tolist()))))
            for one in sets
        ]
        np.save(path, np.stack([plain["gated"] - plain["base"], *shares]))

    key = [sae.hash, tables.key(), tables.hashes[own], [living[one].tolist() for one in sets], [p.id for p in pairs]]
    rows = np.load(tables.stages.file(f"{name}: ablation", f"{name}/ablation.npy", key, make))
    ids = np.array(tables.facts["marked"])
    effect, share = (bootstrap_mean(row, ids, seed=s.seed) for row in rows[:2])
    null = rows[2:].mean(axis=1)
    ratio: Estimate | None = None
    if effect.low > 0 or effect.high < 0:
        grids = (rows[1][None, :, None], rows[0][None, :, None])
        ratio = hierarchical_bootstrap(grids, statistic=lambda gone, whole: gone / whole, seed=s.seed)
    direction = np.sign(effect.value)
    return {
        "latents": int(both.sum()),
        "effect": effect.to_json(),
        "goes": share.to_json(),
        "share": None if ratio is None else ratio.to_json(),
        "null": null.tolist(),
        "p": p_from_null(float(direction * share.value), direction * null, alternative="greater"),
    }


def _counts(one: Chosen) -> dict[str, int]:
    return {"screened": one.screened, "confirmed": int(one.chosen.sum()), "facts": one.facts}


def _scatter(living: np.ndarray, moved: Chosen, marked: Chosen) -> list[dict[str, Any]]:
    """Latents with any effect: what the gates do to them, what a false claim does, and which sets they are in."""
    rows = []
    for k in np.flatnonzero((moved.effect != 0) | (marked.effect != 0)):
        sets = "both" if moved.chosen[k] and marked.chosen[k] else "moved" if moved.chosen[k] else ""
        sets = sets or ("marked" if marked.chosen[k] else "neither")
        rows.append({"latent": int(living[k]), "moved": moved.effect[k], "marked": marked.effect[k], "set": sets})
    return rows


def told(numbers: dict[str, Any]) -> list[str]:
    """The findings in words, a line each; for each SAE whether any claim is supported, and the overlap of every gate set
    with what marks false claims beside the largest null's."""
    lines = []
    for name, one in numbers["saes"].items():
        worst = max(q["fvu"] for q in one["quality"].values())
        least = min(q["loss recovered"] for q in one["quality"].values())
        quality = f"{name} (layer {one['layer']}): FVU up to {worst:.2f}, at least {least:.0%} of the loss kept"
        lines.append(quality if one["sound"] else f"{quality}: too little for a claim on overlap")
        marked = one["marked"][TRUTH]["confirmed"]
        if not marked:
            lines.append(f"  no latent tells false from true claims: there is nothing to overlap with ({TRUTH})")
        for kind in one["marked"]:
            for arm in numbers["gates"]:
                found = {s: v for s, v in one["overlap"][arm][kind].items() if v is not None}
                cells = [
                    f"{s} {v['value']:.3f} (expected {v['expected']:.3f}, p {v['p']:.2g})" for s, v in found.items()
                ]
                counts = f"{one['moved'][arm]['confirmed']} moved, {one['marked'][kind]['confirmed']} marked"
                lines.append(f"  {arm}, {kind}: {counts}; {', '.join(cells) or 'nothing to compare'}")
    return lines
