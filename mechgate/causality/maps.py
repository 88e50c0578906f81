"""Causal maps of heads on pairs of claims, beside maps of gates, and their agreement."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from mechgate.analysis.atlas import head_activity
from mechgate.analysis.gate_patching import knock_heads
from mechgate.analysis.targeting import TOP, targeting
from mechgate.data.pairs import Pair
from mechgate.data.tasks import load_pairs, stance_answers
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import gates_hash
from mechgate.measure.patch_screen import agreement, attribute_heads
from mechgate.measure.patching import Metric, patch_heads, unpatched
from mechgate.model.loading import fingerprint, model_info
from mechgate.model.prompts import encode, prompt_ids
from mechgate.model.resume import Resumable
from mechgate.model.sites import shape_of
from mechgate.progress import track
from mechgate.stages import Stages
from mechgate.stats.estimates import bootstrap_mean
from mechgate.stats.multiplicity import max_t

QUESTION = "Which heads carry the stance towards a claim, and are they the heads that the gates act on?"
DIRECTIONS = {"true into false": (1, 0), "false into true": (0, 1)}
Both = tuple[Pair, Pair]
_NOTHING = 1e-5  # nats (or g - 1): maps that vary less hold rounding alone


class CausalSettings(BaseModel):
    """What `mechgate patch` does; unknown keys are errors.

    `facts` facts of `split` whose false and true claims have equally many tokens are patched both ways (None: all of these); gates
    are knocked out at `strength`. `draws` permutations give the p-values of agreement.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: float = -1.0
    split: str = "test"
    facts: int | None = Field(default=16, ge=4)
    draws: int = Field(default=2_000, ge=99)
    seed: int = 0


def causal_maps(
    model: Any,
    gates: Mapping[str, GateSet],
    *,
    hosts: Mapping[str, Any] | None = None,
    settings: CausalSettings | None = None,
    folder: str | Path,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Maps of heads [layers][heads] and how far gates target what is causal, as plain JSON values; tables are kept.

    `patches`: by direction ("true into false": z of the true claim in the run on the false one) the mean change of the
    first-token stance (`first_token_stance`) over facts, with its max-T p over the map, the whole difference between the
    two runs, and the screens' agreement with it. `hosts`: by host, z of the host's run in the base's run on the false
    claim. `knocked`: by gate set, the change when one head's gates are knocked out of the gated run. `size`: mean |g - 1|.
    `targeting`: `analysis.targeting` of the sizes against each causal map, None where one does not vary. `left_out`: facts whose claims differ in length.

    Raises `InputError` for no gates, and where fewer than four facts are left.
    """
    chosen = settings or CausalSettings()
    if not gates:
        raise InputError("there are no gates to compare with what is causal", got="none")
    kept, left = equal_claims(model, chosen.split, chosen.facts)
    metric, stages = first_token_stance(model), Stages(folder, say)
    asked = [fingerprint(model), [one.id for both in kept for one in both]]

    def table(title: str, name: str, key: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = stages.file(title, f"{name}.npy", [*asked, key], lambda path: np.save(path, make()))
        return np.load(path)

    numbers: dict[str, Any] = {"facts": len(kept), "left_out": left, "settings": chosen.model_dump(mode="json")}
    numbers["patches"], causal = {}, {}
    for name, (source, target) in DIRECTIONS.items():
        found = table(name, name.replace(" ", "-"), None, partial(_patches, model, kept, metric, source, target))
        numbers["patches"][name] = _patched(found, kept, chosen.seed)
        causal[name] = found[0].mean(axis=0)
    numbers["hosts"] = {}
    for name, host in (hosts or {}).items():
        made = partial(_from_host, model, host, kept, metric)
        found = table(f"{name} into base", f"host-{name}", fingerprint(host), made)
        numbers["hosts"][name] = _patched(found, kept, chosen.seed)
        causal[f"{name} into base"] = found[0].mean(axis=0)
    numbers["size"], numbers["knocked"], numbers["targeting"] = {}, {}, {}
    for name, one in gates.items():
        key = [gates_hash(one), chosen.strength]
        false = [both[0] for both in kept]
        size = table(f"{name}: |g - 1|", f"size-{name}", key, partial(_sizes, model, one, false, chosen.strength))
        made = partial(_knocked, model, one, false, metric, chosen.strength)
        knocked = table(f"{name}: gates knocked out", f"knocked-{name}", key, made)
        numbers["size"][name] = size.tolist()
        numbers["knocked"][name] = _patched(knocked, kept, chosen.seed)
        others = {**causal, "gates knocked out": knocked[0].mean(axis=0)}
        numbers["targeting"][name] = {
            kind: targeting(size, other, top=_top(size.size), seed=chosen.seed, draws=chosen.draws)
            if min(np.ptp(np.abs(other)), np.ptp(size)) > _NOTHING
            else None
            for kind, other in others.items()
        }
    return numbers


def _top(heads: int) -> list[int]:
    """The usual numbers of top heads, as far as they are fewer than half of all."""
    return [k for k in TOP if 2 * k < heads]


def first_token_stance(model: Any) -> Metric:
    """Log-odds (nats) of beginning an agreeing answer over beginning a disagreeing one, at the last position.

    The first tokens of the shipped stance answers, those that begin both kinds left out. Raises `InputError` where one
    kind has none of its own.
    """
    starts = []
    for k in range(2):
        rows = [encode(model, [{"role": "user", "content": "?"}], [both[k]]) for both in stance_answers()]
        starts.append({row.answers[0][0] for row in rows})
    agree, disagree = sorted(starts[0] - starts[1]), sorted(starts[1] - starts[0])
    if not agree or not disagree:
        raise InputError("agreeing and disagreeing answers begin alike", got=model_info(model).name)

    def stance(logits: torch.Tensor) -> torch.Tensor:
        last = logits[0, -1].log_softmax(dim=-1)
        return last[agree].logsumexp(dim=0) - last[disagree].logsumexp(dim=0)

    return stance


def equal_claims(model: Any, split: str, n: int | None) -> tuple[list[Both], int]:
    """Pairs (false, true claim) about one fact in one wording with equally many tokens, `n` of them spread over the facts,
    and how many facts have none. Raises `InputError` for fewer than four (or than `n`)."""
    sides = [load_pairs(task, None, split, phrasings=1) for task in ("sycophancy", "genuine-agreement")]
    true = {pair.fact_id: pair for pair in sides[1]}
    both = [(pair, true[pair.fact_id]) for pair in sides[0]]
    equal = [two for two in both if len({len(prompt_ids(model, one.messages)) for one in two}) == 1]
    if len(equal) < max(4, n or 0):
        raise InputError(
            "too few facts have false and true claims of equally many tokens",
            got=f"{len(equal)} of {len(both)}",
            allowed=f"at least {max(4, n or 0)}",
            do="ask for fewer facts",
        )
    chosen = range(len(equal)) if n is None else np.linspace(0, len(equal) - 1, n).round().astype(int)
    return [equal[i] for i in chosen], len(both) - len(equal)


def _patches(model: Any, kept: Sequence[Both], metric: Metric, source: int, target: int) -> np.ndarray:
    """[4, facts, layers, heads]: exact changes, the first-order and the integrated screen, and the difference between both
    runs (the same in every cell)."""
    shape = shape_of(model)
    found = np.zeros((4, len(kept), shape.n_layers, shape.n_heads))
    for i, both in enumerate(track(kept, "patching")):
        runs = [Resumable(model, prompt_ids(model, one.messages)) for one in both]
        own = unpatched(runs[target], metric)
        found[0, i] = patch_heads(model, both[source], both[target], metric, label=None) - own
        for plane, nodes in ((1, 1), (2, 4)):
            found[plane, i] = attribute_heads(model, both[source], both[target], metric, nodes=nodes)
        found[3, i] = unpatched(runs[source], metric) - own
    return found


def _from_host(model: Any, host: Any, kept: Sequence[Both], metric: Metric) -> np.ndarray:
    shape = shape_of(model)
    found = np.zeros((4, len(kept), shape.n_layers, shape.n_heads))
    for i, (false, _) in enumerate(track(kept, "patching from the host")):
        ids = prompt_ids(model, false.messages)
        own = unpatched(Resumable(model, ids), metric)
        found[0, i] = patch_heads(model, ids, ids, metric, source=host, label=None) - own
        for plane, nodes in ((1, 1), (2, 4)):
            found[plane, i] = attribute_heads(model, ids, ids, metric, source=host, nodes=nodes)
        found[3, i] = unpatched(Resumable(host, ids), metric) - own
    return found


def _knocked(model: Any, gates: GateSet, false: Sequence[Pair], metric: Metric, strength: float) -> np.ndarray:
    shape = shape_of(model)
    found = np.zeros((4, len(false), shape.n_layers, shape.n_heads))
    for i, pair in enumerate(track(false, "knocking out")):
        ids = prompt_ids(model, pair.messages)
        own = unpatched(Resumable(model, ids, during=partial(gates.attached, model, strength)), metric)
        found[0, i] = knock_heads(model, gates, ids, metric, strength=strength, label=None) - own
        found[3, i] = unpatched(Resumable(model, ids), metric) - own
    return found


def _sizes(model: Any, gates: GateSet, false: Sequence[Pair], strength: float) -> np.ndarray:
    found = np.zeros((shape_of(model).n_layers, shape_of(model).n_heads))
    found[list(gates.layers)] = head_activity(model, gates, false, strength=strength, label=None)[..., 0].mean(axis=0)
    return found


def _patched(found: np.ndarray, kept: Sequence[Both], seed: int) -> dict[str, Any]:
    exact, facts = found[0], np.array([both[0].fact_id for both in kept])
    p = np.ones(exact.shape[1:])
    varies = np.ptp(exact, axis=0) > 0
    if varies.any():
        p[varies] = max_t(exact[:, varies], seed=seed).p
    whole = bootstrap_mean(found[3, :, 0, 0], facts, seed=seed)
    screens = {}
    for name, plane in (("first order", 1), ("integrated", 2)):
        if np.ptp(found[plane]) > 0:
            screens[name] = vars(agreement(found[plane].mean(axis=0), exact.mean(axis=0)))
    return {"values": exact.mean(axis=0).tolist(), "p": p.tolist(), "whole": whole.to_json(), "screens": screens}


def told(numbers: dict[str, Any]) -> list[str]:
    """The findings in words, a line each."""
    lines = [f"{numbers['facts']} facts ({numbers['left_out']} left out: claims of different lengths)"]
    patches = {**numbers["patches"], **{f"{host} into base": one for host, one in numbers["hosts"].items()}}
    for name, one in patches.items():
        whole, p = one["whole"], np.array(one["p"])
        screens = ", ".join(f"{kind} r = {s['pearson']:.2f}" for kind, s in one["screens"].items())
        lines.append(
            f"{name}: runs differ by {whole['value']:+.2f} [{whole['low']:+.2f}, {whole['high']:+.2f}] nats; {int((p <= 0.05).sum())} "
            f"of {p.size} heads by max-T; screens: {screens or 'none'}"
        )
    for gates, kinds in numbers["targeting"].items():
        for kind, found in kinds.items():
            if found is None:
                lines.append(f"{gates}, {kind}: nothing to agree with")
                continue
            one = found["spearman"]
            lines.append(
                f"{gates}, {kind}: Spearman {one['value']:+.2f} (p within layers {one['p, layers']:.2g}, over all {one['p, all']:.2g})"
            )
    return lines
