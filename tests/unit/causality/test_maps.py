"""Laws of causal maps: what was patched is what is told, hosts that are the base change nothing, tables are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.causality.maps import CausalSettings, causal_maps, equal_claims, first_token_stance
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.patching import patch_heads, unpatched
from mechgate.model.loading import model_info
from mechgate.model.prompts import prompt_ids
from mechgate.model.resume import Resumable

LITTLE = CausalSettings(facts=4, draws=99)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    return tiny_chat_model(tmp_path_factory.mktemp("model"), max_position_embeddings=2048)


@pytest.fixture(scope="module")
def gates(model: Any, shaken: Callable[..., GateSet]) -> dict[str, GateSet]:
    return {"a": shaken(GateSet.identity(model), size=0.5), "b": shaken(GateSet.identity(model, layers=[1]), size=0.5)}


def test_a_whole_run_tells_what_was_patched(
    model: Any, gates: dict[str, GateSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = dict(hosts={"twin": model}, settings=LITTLE, folder=tmp_path, say=lambda text: None)
    numbers = causal_maps(model, gates, **options)
    kept, left = equal_claims(model, "test", 4)
    assert (numbers["facts"], numbers["left_out"]) == (4, left)
    metric = first_token_stance(model)
    expected, whole = [], []
    for false, true in kept:
        own = unpatched(Resumable(model, prompt_ids(model, false.messages)), metric)
        expected.append(patch_heads(model, true, false, metric, label=None) - own)
        whole.append(unpatched(Resumable(model, prompt_ids(model, true.messages)), metric) - own)
    found = numbers["patches"]["true into false"]
    np.testing.assert_allclose(found["values"], np.mean(expected, axis=0), atol=1e-5)
    assert found["whole"]["value"] == pytest.approx(np.mean(whole), abs=1e-5)
    assert set(found["screens"]) == {"first order", "integrated"}
    assert np.abs(numbers["hosts"]["twin"]["values"]).max() < 1e-5  # the host is the base itself
    knocked = np.array(numbers["knocked"]["b"]["values"])
    assert np.abs(knocked[[0, 2]]).max() < 1e-5 < np.abs(knocked[1]).max()
    assert set(numbers["targeting"]["a"]) >= {"true into false", "false into true", "gates knocked out"}
    monkeypatch.setattr("mechgate.causality.maps.patch_heads", lambda *a, **k: pytest.fail("patched again"))
    assert causal_maps(model, gates, **options) == numbers


def test_the_stance_is_the_log_odds_of_how_answers_begin(model: Any) -> None:
    metric, tokenizer = first_token_stance(model), model_info(model).tokenizer
    logits = torch.zeros(1, 1, len(tokenizer))
    even = float(metric(logits))
    logits[0, 0, tokenizer("Y", add_special_tokens=False).input_ids[0]] += 1.0
    assert float(metric(logits)) != even
    assert float(metric(logits + 3.0)) == pytest.approx(float(metric(logits)), abs=1e-5)


def test_claims_are_equally_long_and_about_one_fact(model: Any) -> None:
    kept, left = equal_claims(model, "test", None)
    assert len(kept) + left == 120
    for false, true in kept:
        assert (false.fact_id, false.template) == (true.fact_id, true.template)
        assert len(prompt_ids(model, false.messages)) == len(prompt_ids(model, true.messages))
    with pytest.raises(InputError, match="equally many tokens"):
        equal_claims(model, "test", 121)


def test_no_gates_is_an_error(model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no gates"):
        causal_maps(model, {}, folder=tmp_path)
