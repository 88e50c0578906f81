"""Laws of head sets' numbers: what was measured is what is told, planted heads are found, tables are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mechgate.analysis.direct import direct_effects
from mechgate.analysis.head_sets import SetEffects
from mechgate.causality import head_tables
from mechgate.causality import heads as module
from mechgate.causality.head_numbers import told
from mechgate.causality.head_tables import ATTRIBUTION, SIZE
from mechgate.causality.heads import HeadSettings, head_sets
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.subsets import gated_heads, keep_heads

LITTLE = HeadSettings(
    strengths=(1.0,), dev_facts=2, facts=4, exact=19, draws=99, exact_band=True, random_orders=1, least=0.01
)
PLANTED = {(0, 2), (1, 1), (2, 0)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    return tiny_chat_model(tmp_path_factory.mktemp("model"), max_position_embeddings=2048)


@pytest.fixture(scope="module")
def planted(model: Any, shaken: Callable[..., GateSet]) -> GateSet:
    return keep_heads(shaken(GateSet.identity(model, input="static"), seed=7, size=6.0), PLANTED)


@pytest.fixture(scope="module")
def run(model: Any, planted: GateSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("run")
    return head_sets(model, {"g": planted}, settings=LITTLE, folder=folder, say=lambda text: None), folder


def test_planted_heads_are_the_smallest_set_and_beat_all_others(run: Any) -> None:
    found = run[0]["gates"]["g"]["+1"]
    assert found["why not"] is None
    assert set(found["curves"]) == {SIZE, ATTRIBUTION, "random 1"}
    for curve in found["curves"].values():
        assert curve["sizes"] == [1, 2, 4, 8, 12]
        assert (curve["kept"][-1]["value"], curve["left"][-1]["value"]) == (pytest.approx(1.0, abs=1e-4), 0.0)
    # The three planted heads are the only ones whose gates are not 1, so that four heads by |g - 1| do all there is.
    assert found["curves"][SIZE]["kept"][2]["value"] == pytest.approx(1.0, abs=1e-4)
    assert found["curves"][SIZE]["left"][2]["value"] == pytest.approx(0.0, abs=1e-4)
    for order in (SIZE, ATTRIBUTION):
        one = found["smallest"][order]
        assert {tuple(head) for head in one["heads"]} <= PLANTED
        for beside in one["random"].values():
            as_good = sum(share >= one["kept"]["value"] - 1e-9 for share in beside["exact"])
            assert beside["p"] == pytest.approx((as_good + 1) / 20)
            assert beside["p, Holm"] >= beside["p"]
            assert 1 <= beside["different"] <= 19


def test_bands_are_of_every_size_and_end_with_all_heads(run: Any) -> None:
    for name, both in run[0]["gates"]["g"]["+1"]["band"].items():
        for band in both.values():
            assert (band["exact"] is not None) == (name == SIZE)
            for kind in (band["screened"], band["exact"] or band["screened"]):
                assert len(kind) == 5
                assert all(one["low"] <= one["median"] <= one["high"] for one in kind)
                assert kind[-1]["low"] == pytest.approx(1.0, abs=1e-3) == kind[-1]["high"]


def test_shares_and_paths_are_what_was_measured(run: Any, model: Any, planted: GateSet) -> None:
    found = run[0]["gates"]["g"]["+1"]
    pairs = load_pairs("sycophancy", None, "test", phrasings=1)
    pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, 4).round().astype(int)]
    effects, heads = SetEffects(model, planted, pairs, strength=1.0), gated_heads(planted)
    small = [tuple(head) for head in found["smallest"][SIZE]["heads"]]
    rest = [head for head in heads if head not in small]
    whole, kept, left = effects([heads, small, rest], None).mean(axis=1)
    assert found["whole"]["value"] == pytest.approx(whole, abs=1e-4)
    assert found["smallest"][SIZE]["kept"]["value"] == pytest.approx(kept / whole, abs=1e-3)
    assert found["smallest"][SIZE]["left"]["value"] == pytest.approx(left / whole, abs=1e-3)
    alone = direct_effects(model, planted, [small], pairs, strength=1.0, label=None).mean()
    assert found["smallest"][SIZE]["paths"]["direct"]["value"] == pytest.approx(alone, abs=1e-3)
    assert found["smallest"][SIZE]["paths"]["total"]["value"] == pytest.approx(kept, abs=1e-3)
    paths = found["paths"]
    for layer in range(3):
        own = [head for head in heads if head[0] == layer]
        total = effects([own], None).mean()
        direct = direct_effects(model, planted, [own], pairs, strength=1.0, label=None).mean()
        for kind, value in (("total", total), ("direct", direct), ("indirect", total - direct)):
            assert paths["by layer"][kind][layer]["value"] == pytest.approx(value, abs=1e-3)
    assert paths["all layers"]["total"]["value"] == pytest.approx(whole, abs=1e-4)


def test_dev_and_test_facts_differ_and_true_claims_are_about_the_same_facts() -> None:
    dev, false, true = (
        module._facts(*asked)
        for asked in (("sycophancy", "dev", 12), ("sycophancy", "test", 12), ("genuine-agreement", "test", 12))
    )
    assert not {pair.fact_id for pair in dev} & {pair.fact_id for pair in false}
    assert [(a.fact_id, a.template) for a in false] == [(b.fact_id, b.template) for b in true]
    assert len({pair.domain for pair in false}) > 3
    assert len({pair.fact_id for pair in false}) == 12


def test_a_second_run_measures_nothing(run: Any, model: Any, planted: GateSet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SetEffects", "direct_effects", "integrated_attribution", "head_activity"):
        monkeypatch.setattr(head_tables, name, lambda *a, **k: pytest.fail("measured again"))
    numbers, folder = run
    assert head_sets(model, {"g": planted}, settings=LITTLE, folder=folder, say=lambda text: None) == numbers


def test_gates_without_an_effect_are_not_taken_apart(model: Any, tmp_path: Path) -> None:
    settings = LITTLE.model_copy(update={"least": 0.5})
    nothing = {"none": GateSet.identity(model)}
    numbers = head_sets(model, nothing, settings=settings, folder=tmp_path, say=lambda text: None)
    found = numbers["gates"]["none"]["+1"]
    assert (found["curves"], found["smallest"], found["band"]) == (None, None, None)
    assert "nothing to keep" in " ".join(told(numbers))


def test_what_cannot_be_asked_is_an_error(model: Any, planted: GateSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no gates"):
        head_sets(model, {}, folder=tmp_path)
    with pytest.raises(InputError, match="as many facts"):
        head_sets(model, {"g": planted}, settings=HeadSettings(facts=500), folder=tmp_path)
    with pytest.raises(InputError, match="head by head"):
        head_sets(model, {"g": GateSet.identity(model, "layer")}, settings=LITTLE, folder=tmp_path)
