"""Laws of matching: the multiplier is found, whatever is matched, and what cannot be matched says so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.matching import match_layers
from mechgate.gates.neutral import NeutralInputs, neutral_inputs
from mechgate.gates.nulls import FAMILIES, null_gates
from mechgate.model import hooking
from mechgate.model.loading import load_model
from mechgate.model.prompts import Batch, Row, collate
from mechgate.testing import tiny_hf, tiny_model

Shake = Callable[..., GateSet]
ROWS = [Row(prompt=tuple(range(3, 3 + n)), answers=((40 + n, 2),)) for n in (9, 5, 12)]


@pytest.fixture(scope="module")
def batch() -> Batch:
    return collate(ROWS)


@pytest.fixture(scope="module")
def inputs(llama: Any, batch: Batch) -> NeutralInputs:
    return neutral_inputs(llama, batch)


def seen_rms(model: Any, gates: GateSet, batch: Batch, layer: int) -> tuple[float, float]:
    """RMS(g - 1) and RMS of the change of the attention output in one layer, slowly: by running the gated model."""
    deltas: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    with torch.no_grad(), hooking.attached(model, {f"blocks.{layer}.attn.o.hook_out": outputs.append}):
        for i, row in enumerate(ROWS):
            tokens = torch.tensor([[*row.prompt, *row.answers[0]]])
            assert batch.tokens[i, : len(row)].equal(tokens[0])
            model(tokens)
            with gates.attached(model, observe=deltas.append):
                model(tokens)
    deltas = [d.flatten() for d in deltas]
    changes = [(gated - base).flatten() for base, gated in zip(outputs[::2], outputs[1::2], strict=True)]
    return float(torch.cat(deltas).pow(2).mean().sqrt()), float(torch.cat(changes).pow(2).mean().sqrt())


@pytest.mark.parametrize("architecture", ["gemma2", "gpt2"])
def test_matched_nulls_do_as_much_in_a_gated_run(architecture: str, batch: Batch, shaken: Shake) -> None:
    model = tiny_model(architecture)
    # In one layer only, so that the gated layer reads what it reads in the ungated model.
    gates, inputs = shaken(GateSet.identity(model, layers=[1]), size=0.3), neutral_inputs(model, batch)
    wanted = seen_rms(model, gates, batch, 1)
    for family in set(FAMILIES) - {"layer-permutation"} - ({"group-permutation"} if architecture == "gpt2" else set()):
        for i, match in enumerate(("gate", "output")):
            null = null_gates(gates, family=family, seed=2, batch=inputs, match=match)
            assert seen_rms(model, null, batch, 1)[i] == pytest.approx(wanted[i], rel=1e-3), (family, match)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("match", ["gate", "output"])
def test_a_rescaled_copy_is_scaled_back(
    llama: Any, factor: float, match: str, inputs: NeutralInputs, shaken: Shake
) -> None:
    kinds: list[dict[str, Any]] = [dict(), dict(rank=2), dict(input="static", granularity="head")]
    for kind in kinds:
        learned, copy = (shaken(GateSet.identity(llama, **kind), size=0.5) for _ in range(2))
        with torch.no_grad():
            for layer in copy.layers:
                for rows in copy.gate(layer).rows():
                    rows.mul_(factor)
        report = match_layers(copy, learned, inputs, match)
        assert report["alpha"] == pytest.approx([1 / factor] * 3, rel=1e-3)
        assert report["largest_mismatch"] < 1e-4


def test_the_report_says_what_learned_and_null_do(llama: Any, inputs: NeutralInputs, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(llama), size=0.5)
    null = null_gates(gates, family="gaussian", seed=0, batch=inputs)
    report = null.history["matching"]
    for of, gate_set in (("learned", gates), ("null", null)):
        for i, layer in enumerate(gates.layers):
            delta = gate_set.gate(layer).delta(inputs.x[layer]).detach().double()
            assert report[f"rms_{of}"][i] == pytest.approx(float(delta.pow(2).mean().sqrt()), rel=1e-5)
            assert report[f"mean_abs_{of}"][i] == pytest.approx(float(delta.abs().mean()), rel=1e-5)
            assert report[f"mean_log_{of}"][i] == pytest.approx(float((1 + delta).log().mean()), abs=1e-5)
    ratios = [n / m for n, m in zip(report["rms_null"], report["rms_learned"], strict=True)]
    assert report["largest_mismatch"] == max(abs(r - 1) for r in ratios)


def test_a_bfloat16_model_is_matched_with_its_rounding(shaken: Shake, batch: Batch) -> None:
    half = load_model(tiny_hf(), dtype="bfloat16")
    inputs, gates = neutral_inputs(half, batch), shaken(GateSet.identity(half), size=0.3)
    assert inputs.x[0].dtype == torch.bfloat16
    for family in ("haar", "gaussian", "other-prompt", "layer-permutation"):
        for match in ("gate", "output"):
            null = null_gates(gates, family=family, seed=0, batch=inputs, match=match)
            assert null.history["matching"]["largest_mismatch"] < 0.01


def test_gates_that_do_nothing_cannot_be_matched(llama: Any, inputs: NeutralInputs, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(llama))
    with torch.no_grad():
        for rows in gates.gate(1).rows():
            rows.zero_()
    for family in sorted(FAMILIES):
        with pytest.raises(InputError, match=r"cannot be matched to the learned gate in layer \d.*nothing there"):
            null_gates(gates, family=family, seed=4, batch=inputs)


def test_a_null_that_saturates_below_the_learned_size_cannot_be_matched(
    llama: Any, inputs: NeutralInputs, shaken: Shake
) -> None:
    learned, null = shaken(GateSet.identity(llama), size=20.0), shaken(GateSet.identity(llama))
    with torch.no_grad():
        for rows in null.gate(2).rows():
            rows[:40] = 0  # 24 units of 64 can reach an RMS of 0.61 at most
    with pytest.raises(InputError, match=r"in layer 2.*RMS 0\.61.* where 0\.9\d+ is wanted.*saturates.*not matchable"):
        match_layers(null, learned, inputs)


def test_a_learned_gate_that_is_always_open_or_closed_has_no_dampener(llama: Any, inputs: NeutralInputs) -> None:
    gates = GateSet.identity(llama, granularity="layer")
    with torch.no_grad():
        gates.gate(0).bias.fill_(200.0)
    with pytest.raises(InputError, match=r"closed or wide open on every neutral token.*layer 0"):
        null_gates(gates, family="dampener", seed=0, batch=inputs)


def test_inputs_of_another_batch_change_the_multipliers_only(llama: Any, inputs: NeutralInputs, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(llama), size=0.3)
    one = null_gates(gates, family="gaussian", seed=0, batch=inputs)
    two = null_gates(gates, family="gaussian", seed=0, model=llama, batch=collate(ROWS[:1]))
    alphas = (null.history["matching"]["alpha"] for null in (one, two))
    for layer, a, b in zip(gates.layers, *alphas, strict=True):
        torch.testing.assert_close(one.gate(layer).bias / a, two.gate(layer).bias / b)


def test_the_models_output_projection_counts(shaken: Shake, batch: Batch) -> None:
    model = tiny_model("gpt2")
    gates = shaken(GateSet.identity(model), size=0.3)
    null = {m: null_gates(gates, family="haar", seed=0, model=model, batch=batch, match=m) for m in ("gate", "output")}
    assert null["gate"].history["matching"]["alpha"] != null["output"].history["matching"]["alpha"]
