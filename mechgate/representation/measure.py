"""Activations of one arm at a time, reduced at once to what the analyses need; the reductions are kept, they are not."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechgate.analysis.geometry import condition_arrays
from mechgate.analysis.probing import probe_arrays, stance_labels
from mechgate.analysis.similarity import change_arrays
from mechgate.data.factorial import Factorial
from mechgate.data.pairs import Pair
from mechgate.errors import DataError
from mechgate.measure.activations import activations
from mechgate.measure.margins import stance_margins
from mechgate.model.loading import fingerprint
from mechgate.provenance import atomic_path, stable_hash
from mechgate.representation.arms import Arm, Base
from mechgate.representation.settings import SimilaritySettings
from mechgate.stages import Stages
from mechgate.stats.rsa import units_of

BASE = Base()
STAGED = ("layers", "folds", "permutations", "probe_controls", "seed")
"""The settings that reductions depend on."""


class Bench:
    """Measures one design at one token role. In memory at once: the activations without gates and those of one arm."""

    def __init__(self, model: Any, design: Factorial, position: str, settings: SimilaritySettings, stages: Stages):
        self.model, self.design, self.position = model, design, position
        self.settings, self.stages = settings, stages
        self.prompts = design.at(position)
        self._base: np.ndarray | None = None
        self._made_from = [fingerprint(model), stable_hash([asdict(p) for p in self.prompts]), design.domains, position]

    def arrays(self, arm: Arm | Base) -> dict[str, np.ndarray]:
        """The reductions of an arm: those of `condition_arrays`, `change_arrays` and `probe_arrays`.

        Permutations and control tasks are for the base and the judged gates; rivals go without.
        """
        settings = self.settings.model_dump(mode="json")
        key = [self._made_from, [settings[name] for name in STAGED], arm.kind, arm.key, arm.dose]
        at = "" if isinstance(arm, Base) else f"-at{arm.strength:+g}"
        file = f"{self.design.name}-{self.position}/{arm.kind}-{arm.name.replace('/', '_')}{at}.npz"
        path = self.stages.file(
            f"{self.design.name}, {self.position}: {arm.name}{at}", file, key, lambda p: self._write(p, arm)
        )
        try:
            with np.load(path, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{path} is damaged", got=str(error), do="delete it and run again") from error

    def stance(self, arm: Arm | Base) -> np.ndarray | None:
        """Stance margins of the prompts (nats, mean over the shipped answers), or None where they are no pairs."""
        pairs = [prompt for prompt in self.design.prompts if isinstance(prompt, Pair)]
        if len(pairs) != len(self.design.prompts):
            return None

        def make() -> pd.DataFrame:
            with arm.attached(self.model):
                return pd.DataFrame({"margin": stance_margins(self.model, pairs, label=None).mean(axis=1)})

        # Whatever the token role: without it in the key, it is measured once.
        key = [fingerprint(self.model), stable_hash([asdict(p) for p in pairs]), arm.key, arm.dose]
        file = f"{self.design.name}-stance/{arm.name}{'' if isinstance(arm, Base) else f'-at{arm.strength:+g}'}.csv"
        return self.stages.table(f"{self.design.name}, stance: {arm.name}", file, key, make)["margin"].to_numpy()

    def _write(self, path: Path, arm: Arm | Base) -> None:
        found = self._reduced(arm)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **found)

    def _reduced(self, arm: Arm | Base) -> dict[str, np.ndarray]:
        s = self.settings
        if self._base is None:
            self._base = self._measured(BASE)
        base, units = self._base, units_of(self._base)
        judged = arm.kind in ("base", "gates")
        x = base if isinstance(arm, Base) else self._measured(arm)
        parts = condition_arrays(
            x, units, self.design, n_folds=s.folds, seed=s.seed, permutations=s.permutations if judged else 0
        )
        if not isinstance(arm, Base):
            parts |= change_arrays(base, x, units, self.design)
        stance = None
        if judged and (before := self.stance(BASE)) is not None:
            after = self.stance(arm)
            assert after is not None
            if np.ptp(before) and np.ptp(after):
                stance = (stance_labels(before, self.design), stance_labels(after, self.design))
        return parts | probe_arrays(
            x,
            self.design,
            n_folds=s.folds,
            seed=s.seed,
            base=None if isinstance(arm, Base) else base,
            stance=stance,
            controls=s.probe_controls if judged else 0,
        )

    def _measured(self, arm: Arm | Base) -> np.ndarray:
        layers = None if self.settings.layers is None else list(self.settings.layers)
        with arm.attached(self.model):
            return activations(
                self.model, self.prompts, layers=layers, position=self.position, label=f"{self.position}, {arm.name}"
            )
