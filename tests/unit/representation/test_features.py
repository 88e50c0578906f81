"""Laws of feature overlap: disjoint facts, kept tables, and numbers that say what was and was not found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mechgate.data.sets import asked
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.features import Context, Sae, feature_means, firing_rates, load_sae, top_contexts
from mechgate.measure.token_states import generated_states, text_states
from mechgate.representation.feature_tables import TRUTH, FeatureSettings, FeatureTables
from mechgate.representation.features import features
from mechgate.stages import Stages
from mechgate.train.sae import SaeSettings, train_sae

pytest.importorskip("sae_lens")

LITTLE = FeatureSettings(facts=32, nulls=1, permutations=99, texts=4)
TEXTS = ["Snow fell all night on the hills.", "A letter came at noon."]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    """A tiny chat model with room for the shipped texts."""
    return tiny_chat_model(tmp_path_factory.mktemp("model"), max_position_embeddings=4096)


@pytest.fixture(scope="module")
def sae(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Sae:
    folder = tmp_path_factory.mktemp("sae")
    prompts = [asked(text) for text in ("Hi.", "Is tea hot?", "What is rain made of?")]
    states = generated_states(
        model, prompts, folder / "states", layers=[1], n=600, seed=0, max_new_tokens=40, label=None
    )
    train_sae(model, states, 1, SaeSettings(seed=0, d_sae=64, k=4, batch_size=64, epochs=20, lr=5e-3), folder / "sae")
    return load_sae(folder / "sae", model)


@pytest.fixture(scope="module")
def gates(model: Any, shaken: Callable[..., GateSet]) -> dict[str, GateSet]:
    return {str(seed): shaken(GateSet.identity(model), seed=seed) for seed in (0, 1)}


def test_a_whole_run_says_everything_and_measures_once(
    model: Any, sae: Sae, gates: dict[str, GateSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = dict(hosts={"host": model}, settings=LITTLE, folder=tmp_path, say=lambda text: None)
    numbers = features(model, gates, {"one": sae, "two": sae}, **options)
    one = numbers["saes"]["one"]
    assert set(one["quality"]) == {"base", "0", "1"}
    assert set(one["overlap"]) == set(one["moved"]) == {"0", "1", "row-sign 0", "dampener"}
    assert set(one["marked"]) == {TRUTH, "host minus base"}
    assert one["marked"]["host minus base"]["confirmed"] == 0  # the host is the base
    assert (one["moved"]["0"]["facts"], one["marked"][TRUTH]["facts"]) == (16, 16)
    assert {"scatter", "shared", "ablation"} <= set(one)
    assert "ablation" not in numbers["saes"]["two"]
    assert numbers["saes"]["two"]["overlap"] == one["overlap"]
    monkeypatch.setattr("mechgate.representation.feature_tables.feature_means", lambda *a, **k: pytest.fail("again"))
    assert features(model, gates, {"one": sae, "two": sae}, **options) == numbers


def test_what_gates_move_is_measured_on_other_facts_than_what_marks(
    model: Any, gates: dict[str, GateSet], tmp_path: Path
) -> None:
    tables = FeatureTables(model, gates, {}, {}, LITTLE, Stages(tmp_path, lambda text: None))
    assert len(tables.facts["moved"]) == len(tables.facts["marked"]) == 16
    assert not set(tables.facts["moved"]) & set(tables.facts["marked"])


def test_the_latents_under_gates_are_those_of_the_gated_model(
    model: Any, sae: Sae, gates: dict[str, GateSet], tmp_path: Path
) -> None:
    tables = FeatureTables(model, gates, {}, {}, LITTLE, Stages(tmp_path, lambda text: None))
    pairs = [tables.false[tables.place[fact]] for fact in tables.facts["moved"]]
    with gates["0"].attached(model, -1.0):
        expected = feature_means(model, sae, pairs, label=None)
    np.testing.assert_array_equal(tables.values("one", sae, "0", "false", "moved"), expected)
    assert np.abs(expected - feature_means(model, sae, pairs, label=None)).max() > 0


def test_rates_are_shares_of_tokens_and_contexts_quote_the_text(model: Any, sae: Sae) -> None:
    ids, which, states = text_states(model, TEXTS, 1)
    active = sae.encode(states).numpy()
    np.testing.assert_allclose(firing_rates(model, sae, TEXTS), (active > 0).mean(axis=0))
    latent = int((active > 0).mean(axis=0).argmax())
    found = top_contexts(model, sae, TEXTS, [latent], n=2, window=3)[latent]
    assert len(found) == 2
    best = active[:, latent].argmax()
    assert found[0].activation == pytest.approx(float(active[best, latent]))
    assert all(isinstance(one, Context) and one.activation > 0 for one in found)
    assert found[0].before + found[0].token + found[0].after in TEXTS[which[best]]
    assert len(ids) == len(which)


def test_what_cannot_be_asked_is_an_error(model: Any, sae: Sae, gates: dict[str, GateSet], tmp_path: Path) -> None:
    for given in (({}, {"one": sae}), (gates, {})):
        with pytest.raises(InputError, match="gates and an SAE"):
            features(model, *given, folder=tmp_path)
    with pytest.raises(ValidationError):
        FeatureSettings(facts=8)
    with pytest.raises(ValidationError):
        FeatureSettings(layer=3)  # pyright: ignore[reportCallIssue]
