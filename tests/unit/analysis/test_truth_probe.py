"""Laws of the truth probe: it finds what is there, finds nothing where nothing is, and never sees the test facts."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mechgate.analysis.truth_probe import CS, STATEMENTS, Statements, TruthProbe, probe_accuracy, truth_probe
from mechgate.data.facts import split_facts
from mechgate.data.sets import asked
from mechgate.data.wordings import filled, wordings
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.activations import activations
from mechgate.measure.knowledge import STATEMENTS as ASKED
from mechgate.stats.estimates import bootstrap_mean

N_LAYERS, WIDTH = 3, 8
FEW = (0.01, 1.0)
Parts = tuple[Statements, Statements, Statements]


def made_up(seed: int, *, planted: int | None = None, size: float = 3.0, flipped: bool = False) -> Parts:
    """Train, dev and test facts of four statements: noise by fact and by statement, and at layer `planted` the label.

    `flipped` turns all labels of a fact round by a fair coin, after the label was planted.
    """
    draw = np.random.default_rng(seed)
    direction = draw.normal(size=WIDTH) / WIDTH**0.5
    parts = []
    for name, n in (("train", 30), ("dev", 10), ("test", 20)):
        true = np.tile(list(STATEMENTS.values()), n)
        x = draw.normal(size=(4 * n, N_LAYERS, WIDTH)) + np.repeat(draw.normal(size=(n, N_LAYERS, WIDTH)), 4, axis=0)
        if planted is not None:
            x[:, planted] += size * np.where(true, 1, -1)[:, None] * direction
        x = x * 10.0 ** np.arange(WIDTH) + 5  # units that differ must not matter
        if flipped:
            true = true ^ np.repeat(draw.random(n) < 0.5, 4)
        parts.append(
            Statements(x=x.astype(np.float32), true=true, facts=tuple(f"{name}-{i // 4}" for i in range(4 * n)))
        )
    return parts[0], parts[1], parts[2]


def slow_correct(train: Statements, held_out: Statements, layer: int, c: float) -> list[bool]:
    """Standardise by hand, fit, and look at the sign of the decision of one statement after the other."""
    x = train.x[:, layer].astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    probe = LogisticRegression(C=c, tol=1e-8, max_iter=100_000).fit((x - mean) / deviation, train.true)
    found = []
    for value, true in zip(held_out.x[:, layer], held_out.true, strict=True):
        decision = float(((value - mean) / deviation) @ probe.coef_[0] + probe.intercept_[0])
        found.append((decision > 0) == true)
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layer", range(N_LAYERS))
def test_a_planted_direction_is_found_at_its_layer(seed: int, layer: int) -> None:
    found = probe_accuracy(*made_up(seed, planted=layer, size=6.0), seed=0)
    assert found.layer == layer
    assert found.accuracy.value > 0.45
    assert found.by_layer_dev[layer] == max(found.by_layer_dev) > 0.95


def test_labels_shuffled_by_fact_leave_nothing_to_find() -> None:
    values = [probe_accuracy(*made_up(s, planted=1, flipped=True), seed=0, cs=FEW).accuracy.value for s in range(40)]
    assert abs(np.mean(values)) < 4 * np.std(values, ddof=1) / len(values) ** 0.5
    assert abs(np.mean(values)) < 0.06


def test_without_a_direction_the_interval_covers_chance_about_as_often_as_it_says() -> None:
    found = [probe_accuracy(*made_up(seed), seed=seed, cs=FEW).accuracy for seed in range(40)]
    assert sum(e.low <= 0 <= e.high for e in found) >= 33  # of 40 at 95% and 20 clusters


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_slow_version_chooses_and_gets_right(seed: int) -> None:
    train, dev, test = made_up(seed, planted=2, size=0.8)
    on_dev = {(layer, c): np.mean(slow_correct(train, dev, layer, c)) for c in sorted(CS) for layer in range(N_LAYERS)}
    layer, c = max(on_dev, key=lambda k: on_dev[k])  # the first of equals: the smallest C, then the earliest layer
    correct = np.array(slow_correct(train, test, layer, c))
    found = probe_accuracy(train, dev, test, seed=7)
    assert (found.layer, found.C) == (layer, c)
    assert found.by_layer_dev == tuple(max(on_dev[k, c] for c in CS) for k in range(N_LAYERS))
    assert found.accuracy == bootstrap_mean(correct - 0.5, test.facts, seed=7)
    assert found.accuracy.value == pytest.approx(np.mean(correct) - 0.5)
    assert found.accuracy.n == 20
    assert (found.n_train, found.n_dev, found.n_test) == (30, 10, 20)


@pytest.mark.parametrize("seed", range(3))
def test_test_facts_choose_nothing_and_dev_facts_do_not_train(seed: int) -> None:
    train, dev, test = made_up(seed, planted=1, size=1.0)
    found = probe_accuracy(train, dev, test, seed=0)
    other = probe_accuracy(train, dev, replace(test, x=-test.x, true=~test.true[::-1]), seed=0)
    assert (other.layer, other.C, other.by_layer_dev) == (found.layer, found.C, found.by_layer_dev)
    one = {"cs": [found.C]}  # with layer and C chosen alike, what dev holds changes nothing on test
    only = [replace(part, x=part.x[:, 1:2]) for part in (train, dev, test)]
    noise = replace(only[1], x=np.random.default_rng(seed).normal(size=only[1].x.shape))
    assert (
        probe_accuracy(*only, seed=0, **one).accuracy == probe_accuracy(only[0], noise, only[2], seed=0, **one).accuracy
    )


def test_units_and_order_change_nothing() -> None:
    train, dev, test = made_up(0, planted=1, size=1.0)
    found = probe_accuracy(train, dev, test, seed=0)
    scaled = [replace(part, x=part.x * np.float32(4) - np.float32(16)) for part in (train, dev, test)]
    assert probe_accuracy(*scaled, seed=0).by_layer_dev == found.by_layer_dev
    order = np.random.default_rng(1).permutation(len(train.true))
    shuffled = Statements(x=train.x[order], true=train.true[order], facts=tuple(train.facts[i] for i in order))
    assert probe_accuracy(shuffled, dev, test, seed=0, cs=CS[::-1]) == found


def test_the_json_holds_every_field_in_plain_values() -> None:
    found = probe_accuracy(*made_up(0, planted=1), seed=0)
    back = json.loads(json.dumps(found.to_json()))
    assert list(back) == list(TruthProbe.__dataclass_fields__)
    assert back["accuracy"] == found.accuracy.to_json()
    assert (back["layer"], back["C"], tuple(back["by_layer_dev"])) == (found.layer, found.C, found.by_layer_dev)


def test_the_statements_are_those_of_the_knowledge_measure_and_true_where_they_say() -> None:
    assert set(STATEMENTS) == set(ASKED)
    assert [name for name, true in STATEMENTS.items() if true] == ["correction", "true_claim"]


def test_the_models_probe_is_that_of_its_activations(
    tmp_path: Any, tiny_chat_model: Callable[..., Any], shaken: Callable[..., GateSet]
) -> None:
    model = tiny_chat_model(tmp_path / "model", max_position_embeddings=512)
    wording = wordings("knowledge")["dev"][0][0]
    parts = []
    for split in ("train", "dev", "test"):
        rows = [
            (fact.id, name in ("correction", "true_claim"), asked(filled(wording, claim=getattr(fact, name))))
            for fact in split_facts("medical", split)
            for name in ASKED
        ]
        ids, true, prompts = zip(*rows, strict=True)
        parts.append(Statements(x=activations(model, prompts), true=np.array(true), facts=ids))
    found = truth_probe(model, domains=["medical"], seed=3)
    expected = probe_accuracy(*parts, seed=3)
    assert (found.n_train, found.n_dev, found.n_test) == (expected.n_train, expected.n_dev, expected.n_test)
    # Statements come in another order, so that a fit may differ in its last digits: one statement in a part at most.
    np.testing.assert_allclose(found.by_layer_dev, expected.by_layer_dev, atol=1.01 / len(parts[1].true))
    gates = shaken(GateSet.identity(model))
    with gates.attached(model, 0.0):
        assert truth_probe(model, domains=["medical"], seed=3) == found
    with gates.attached(model, 1.0):
        assert truth_probe(model, domains=["medical"], seed=3).by_layer_dev != found.by_layer_dev


def test_no_domain_an_unknown_one_and_one_twice_are_refused(chat: Any) -> None:
    for wrong in ([], ["medical", "medical"], ["astrology"]):
        with pytest.raises(InputError, match="domain"):
            truth_probe(chat, domains=wrong, seed=0)


def test_parts_that_share_facts_or_do_not_fit_are_refused() -> None:
    train, dev, test = made_up(0)
    for parts in ((train, dev, train), (train, train, test), (train, test, test)):
        with pytest.raises(InputError, match="not held out"):
            probe_accuracy(*parts, seed=0)
    with pytest.raises(InputError, match="different layers"):
        probe_accuracy(train, dev, replace(test, x=test.x[:, :2]), seed=0)
    for cs in ([], [0.0], [float("nan")], [float("inf")]):
        with pytest.raises(InputError, match="inverse penalties"):
            probe_accuracy(train, dev, test, seed=0, cs=cs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: dict(x=s.x[:-1]), "one label and one fact"),
        (lambda s: dict(facts=s.facts[:-1]), "one label and one fact"),
        (lambda s: dict(x=s.x[:, 0]), "one activation a layer"),
        (lambda s: dict(true=np.ones_like(s.true)), "true and false"),
        (lambda s: dict(true=s.true.astype(int)), "true and false"),
        (lambda s: dict(x=np.full_like(s.x, np.nan)), "finite"),
    ],
)
def test_statements_that_cannot_be_probed_are_refused(
    change: Callable[[Statements], dict[str, Any]], message: str
) -> None:
    part = made_up(0)[1]
    with pytest.raises(InputError, match=message):
        replace(part, **change(part))
