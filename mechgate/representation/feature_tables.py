"""What is measured for feature overlap: latents under every arm, an SAE's quality, margins; each table kept and reused."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mechgate.data.pairs import Example, Pair
from mechgate.data.sets import neutral_texts
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import gates_hash
from mechgate.measure.features import LatentDial, Sae, feature_means, firing_rates, loss_recovered
from mechgate.measure.margins import stance_margins
from mechgate.measure.token_states import text_states
from mechgate.model.loading import fingerprint
from mechgate.representation.comparison import matched_claims, null_arms
from mechgate.seeding import rng
from mechgate.stages import Stages
from mechgate.stats.permutation import FEWEST_NULLS
from mechgate.train.sae import sae_quality

TRUTH = "false minus true"
Change = Callable[[], AbstractContextManager[Any]]


class FeatureSettings(BaseModel):
    """What `mechgate features` does; unknown keys are errors.

    Gates at `strength` on `facts` facts (None: all of `split`), read at `position` (`measure.activations`); half of the
    facts say what gates move, the other half what marks unsafe prompts. `nulls` row-sign nulls (and one matched dampener) are
    made of the first gate set, and `permutations` made within strata of firing rate and decoder norm; what both sets share is ablated beside
    `ablations` sets of latents alike. `texts` neutral texts give quality, firing rates and contexts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: float = -1.0
    split: str = "test"
    facts: int | None = Field(default=None, ge=32)
    position: str = "last"
    nulls: int = Field(default=3, ge=1)
    permutations: int = Field(default=10_000, ge=99)
    ablations: int = Field(default=FEWEST_NULLS, ge=FEWEST_NULLS)
    texts: int = Field(default=48, ge=4)
    seed: int = 0


class FeatureTables:
    """Latents under every arm, on facts of two disjoint parts: "moved" says what gates move, "marked" what marks unsafe
    prompts. Arms are the base, gate sets, row-sign nulls and a matched dampener of the first one, and controls."""

    def __init__(self, model: Any, gates: Mapping[str, GateSet], hosts: Any, controls: Any, s: Any, stages: Stages):
        self.model, self.gates, self.hosts, self.settings, self.stages = model, gates, hosts, s, stages
        self.false, self.true = matched_claims(s.split, s.facts)
        kept = [pair.fact_id for pair in self.false]
        half = len(kept) // 2
        order = rng(s.seed, "features", "facts").permutation(len(kept))
        self.facts = {"moved": [kept[i] for i in order[:half]], "marked": [kept[i] for i in order[half:]]}
        self.place = {name: i for i, name in enumerate(kept)}
        self.texts: list[str | Example] = list(neutral_texts(s.split).values())[: s.texts]
        self.arms: dict[str, Change] = {"base": nullcontext}
        first = next(iter(gates.values()))
        nulls = null_arms(model, first, self.texts, draws={"row-sign": s.nulls}, purpose="features", seed=s.seed)
        self.hashes = {"base": ""}
        for name, one in {**gates, **nulls, **controls}.items():
            self.arms[name] = partial(one.attached, model, s.strength)
            self.hashes[name] = gates_hash(one)

    def values(self, name: str, sae: Sae, arm: str, side: str, part: str, host: str | None = None) -> np.ndarray:
        """Latents' activations of one side's prompts on the facts of one part: [n_facts, n_latents]."""
        pairs = [(self.false if side == "false" else self.true)[self.place[fact]] for fact in self.facts[part]]
        model = self.model if host is None else self.hosts[host]

        def make(path: Path) -> None:
            with self.arms[arm]() if host is None else nullcontext():
                values = feature_means(model, sae, pairs, position=self.settings.position, label=None)
            np.save(path, values)

        title = f"{name}: latents, {host or arm}, {side} claims ({part})"
        key = [sae.hash, self.key(), self.hashes[arm], host and fingerprint(model), side, part, [p.id for p in pairs]]
        file = f"{name}/{host or arm}-{side}-{part}.npy".replace(" ", "-")
        return np.load(self.stages.file(title, file, key, make))

    def marks(self, name: str, sae: Sae) -> dict[str, np.ndarray]:
        """How much more active latents are on false claims than on true ones, and in each host than in the base: by kind."""
        false = self.values(name, sae, "base", "false", "marked")
        found = {TRUTH: false - self.values(name, sae, "base", "true", "marked")}
        hosts = {f"{host} minus base": self.values(name, sae, "base", "false", "marked", host) for host in self.hosts}
        return found | {kind: values - false for kind, values in hosts.items()}

    def quality(self, name: str, sae: Sae, arm: str) -> dict[str, float]:
        """FVU, L0, dead share, tokens and the share of the loss recovered, on the neutral texts under an arm."""

        def make(path: Path) -> None:
            with self.arms[arm]():
                _, _, states = text_states(self.model, self.texts, sae.layer)
                recovered = loss_recovered(self.model, sae, self.texts)
            np.save(path, np.array([*asdict(sae_quality(sae, states)).values(), recovered]))

        key = [sae.hash, self.key(), self.hashes[arm]]
        values = np.load(self.stages.file(f"{name}: quality, {arm}", f"{name}/quality-{arm}.npy", key, make))
        return dict(zip(("fvu", "l0", "dead", "tokens", "loss recovered"), values.tolist(), strict=True))

    def rates(self, name: str, sae: Sae) -> np.ndarray:
        """The share of neutral tokens on which each latent is active."""
        key = [sae.hash, self.key()]
        path = self.stages.file(
            f"{name}: firing rates",
            f"{name}/rates.npy",
            key,
            lambda path: np.save(path, firing_rates(self.model, sae, self.texts)),
        )
        return np.load(path)

    def margins(self, pairs: Sequence[Pair], own: str, dial: LatentDial | None) -> dict[str, np.ndarray]:
        """Stance margins (nats) of pairs, "base" and "gated" by the set `own`, each under the same ablation."""
        found = {}
        for label, arm in (("base", "base"), ("gated", own)):
            with self.arms[arm](), nullcontext() if dial is None else dial.attached(self.model, 1.0):
                found[label] = stance_margins(self.model, pairs, label=None).mean(axis=1)
        return found

    def key(self) -> list[Any]:
        """What every table depends on."""
        s = self.settings
        return [fingerprint(self.model), s.strength, s.position, s.split, len(self.texts), s.seed]
