"""Does the model hold a direction of truth that carries over to facts it was not fitted on? A linear probe, held out.

Each fact gives two true and two false statements, of which one true and one false agree with its wording (2 x 2), so
that no word of the design goes with the truth. A probe is fitted on the train facts, its layer and its penalty are
chosen on the dev facts, and what is reported is its accuracy on the test facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechgate.data.facts import domains as all_domains
from mechgate.data.facts import split_facts
from mechgate.data.sets import asked
from mechgate.data.wordings import filled, wordings
from mechgate.errors import InputError
from mechgate.measure.activations import activations
from mechgate.stats.estimates import Estimate, bootstrap_mean
from mechgate.stats.probes import fit_probe, is_right

CHANCE = 0.5
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
STATEMENTS = {"correction": True, "false_claim": False, "true_claim": True, "false_counterpart": False}


@dataclass(frozen=True, kw_only=True, eq=False)
class Statements:
    """Statements as a model holds them: `x` [n, n_layers, d], whether each is `true` [n], and the `facts` [n] they
    belong to. Raises `InputError` for lengths that differ, numbers that are not finite and statements of one kind."""

    x: np.ndarray
    true: np.ndarray
    facts: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.x.ndim != 3 or not self.x.size or not len(self.x) == len(self.true) == len(self.facts):
            raise InputError(
                "statements need one activation a layer, one label and one fact each",
                got=f"x {self.x.shape}, {len(self.true)} labels, {len(self.facts)} facts",
                allowed="x [n, n_layers, d], true [n], facts [n]",
            )
        if self.true.dtype != bool or self.true.all() or not self.true.any():
            raise InputError("a probe needs true and false statements", got=f"labels {np.unique(self.true)}")
        if not np.isfinite(self.x).all():
            raise InputError("activations must be finite", got=f"{int((~np.isfinite(self.x)).sum())} that are not")


@dataclass(frozen=True, kw_only=True)
class TruthProbe:
    """A probe's held-out `accuracy` minus chance (0.5), its interval by facts, and what was chosen on dev facts.

    `layer` is the place in the activations that were given (the layer's number where all were), `C` the inverse
    penalty in scikit-learn's unit, on standardised activations. `n_train`, `n_dev` and `n_test` count facts;
    `by_layer_dev` is the accuracy (0 to 1) on the dev facts of each layer at its best C: chosen from, so no estimate.
    """

    accuracy: Estimate
    layer: int
    C: float
    n_train: int
    n_dev: int
    n_test: int
    by_layer_dev: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values, in the order of the class."""
        return {
            "accuracy": self.accuracy.to_json(),
            "layer": self.layer,
            "C": self.C,
            "n_train": self.n_train,
            "n_dev": self.n_dev,
            "n_test": self.n_test,
            "by_layer_dev": list(self.by_layer_dev),
        }


def truth_probe(
    model: Any, *, domains: Sequence[str] | None = None, seed: int, label: str | None = "truth probe"
) -> TruthProbe:
    """Probe the residual stream after every block for the truth of the facts' statements (`domains` None: all).

    A statement is asked about in one neutral wording, the first of `conversations/knowledge.yaml`, and read at the
    prompt's last token, where the answer is decided. Gates attached around the call are part of the model. `seed` is
    the bootstrap's; nothing else is drawn. Raises `InputError` for an unknown domain or none.
    """
    chosen = all_domains() if domains is None else tuple(domains)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError("domains must be different ones, at least one", got=list(chosen), allowed=list(all_domains()))
    train, dev, test = (
        _statements(model, chosen, split, label and f"{label}, {split}") for split in ("train", "dev", "test")
    )
    return probe_accuracy(train, dev, test, seed=seed)


def probe_accuracy(
    train: Statements, dev: Statements, test: Statements, *, seed: int, cs: Sequence[float] = CS
) -> TruthProbe:
    """Fit on `train` by layer and C (L2-penalised logistic regression), choose both on `dev`, report on `test`.

    Activations are standardised by the train statements. Among equals on dev the stronger penalty wins, then the
    earlier layer. All statements of a fact are one cluster, and each fact counts once. Raises `InputError` for facts
    in more than one part, parts of different layers or width, penalties that are not positive, and fewer than two
    test facts.
    """
    _check(train, dev, test, cs)
    layers = range(train.x.shape[1])
    on_dev = np.array([[_correct(train, dev, layer, c).mean() for layer in layers] for c in sorted(cs)])
    best, layer = np.unravel_index(on_dev.argmax(), on_dev.shape)
    c = float(sorted(cs)[best])
    correct = _correct(train, test, int(layer), c)
    return TruthProbe(
        accuracy=bootstrap_mean(correct - CHANCE, test.facts, seed=seed),
        layer=int(layer),
        C=c,
        n_train=len(set(train.facts)),
        n_dev=len(set(dev.facts)),
        n_test=len(set(test.facts)),
        by_layer_dev=tuple(map(float, on_dev.max(axis=0))),
    )


def _statements(model: Any, domains: Sequence[str], split: str, label: str | None) -> Statements:
    facts = [fact for domain in domains for fact in split_facts(domain, split)]
    wording = wordings("knowledge")["dev"][0][0]
    prompts = [asked(filled(wording, claim=getattr(fact, name))) for fact in facts for name in STATEMENTS]
    return Statements(
        x=activations(model, prompts, "resid_post", position="last", label=label),
        true=np.array([*STATEMENTS.values()] * len(facts)),
        facts=tuple(fact.id for fact in facts for _ in STATEMENTS),
    )


def _correct(train: Statements, held_out: Statements, layer: int, c: float) -> np.ndarray:
    """Whether the probe fitted on `train` is right about each statement of `held_out`: 0 or 1 [n]."""
    return is_right(fit_probe(train.x[:, layer], train.true, c), held_out.x[:, layer], held_out.true)


def _check(train: Statements, dev: Statements, test: Statements, cs: Sequence[float]) -> None:
    parts = {"train": train, "dev": dev, "test": test}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if shared := sorted(set(parts[one].facts) & set(parts[other].facts)):
            raise InputError(f"facts are in both {one} and {other}, so the probe is not held out", got=shared[:3])
    if len({part.x.shape[1:] for part in parts.values()}) > 1:
        raise InputError(
            "the parts hold activations of different layers or width", got=[part.x.shape for part in parts.values()]
        )
    if not cs or not all(0 < c < float("inf") for c in cs):
        raise InputError("inverse penalties must be positive numbers", got=list(cs), allowed="at least one, above 0")
