"""Planted truth about persona vectors: what a gate writes or reads is found, and a dampener is not called aligned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.analysis.personas import Direction, Nulls, read_side, verdicts, write_side
from mechgate.data.sets import asked
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.reading import read_directions
from mechgate.measure.activations import activations
from mechgate.stats.directions import gaussian_weights

LAYERS, D, UNIT = 3, 32, 5
PROMPTS = [
    asked(f"Is it true that {a} {b}?") for a in ("tea", "snow", "iron", "wool") for b in ("melts", "floats", "ends")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    """A tiny model whose last MLP does nothing, so that its last block leaves what its heads write."""
    found = tiny_chat_model(tmp_path_factory.mktemp("planted") / "model")
    with torch.no_grad():
        for name, parameter in found.original_model.named_parameters():
            if "layers.2.mlp.down_proj" in name.replace("._original_component", ""):
                parameter.zero_()
    return found


def noise(n: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, LAYERS, D))


def towards(direction: np.ndarray, layer: int, seed: int = 0) -> np.ndarray:
    """Noisy rows whose mean at one layer is that direction."""
    rows = 0.1 * noise(seed=seed)
    rows[:, layer] += direction / np.linalg.norm(direction)
    return rows


def direction(name: str, rows: np.ndarray, kind: str = "misbehaviour", steers: bool | None = True) -> Direction:
    groups = {"questions": np.arange(len(rows))}
    return Direction(name=name, kind=kind, write={"response_avg": rows}, read=rows, groups=groups, steers=steers)


def moved(model: Any, gates: GateSet) -> np.ndarray:
    base = activations(model, PROMPTS, label=None)
    with gates.attached(model, -1.0):
        return activations(model, PROMPTS, label=None) - base


def pool(model: Any, draws: int = 199) -> Nulls:
    write, read = (activations(model, PROMPTS, hook, position="mean", label=None) for hook in ("resid_post", "hook_in"))
    extra = noise(40, seed=9)
    scales = [values.std() for values in (write, read)]
    both = [np.concatenate([v, s * extra]) for v, s in zip((write, read), scales, strict=True)]
    return Nulls(write=both[0], read=both[1], draws=draws, seed=0)


def judged(found: Any, directions: list[Direction], others: Any = (), side: str = "write") -> dict[str, Any]:
    return verdicts(found, {one.name: one.described(seed=0) for one in directions}, others, side=side)


def first_variants(found: dict[str, Any]) -> dict[str, Any]:
    return {name: one["response_avg"] for name, one in found.items()}


def dampener(model: Any, size: float = 1.0) -> GateSet:
    gates = GateSet.identity(model, "layer", input="static")
    with torch.no_grad():
        for layer in gates.layers:
            gates.gate(layer).bias.fill_(size)
    return gates


def test_a_gate_that_writes_along_one_direction_is_found(model: Any, tmp_path: Path) -> None:
    gates = GateSet.identity(model, input="static")
    with torch.no_grad():
        gates.gate(2).bias[UNIT] = 2.0
    weights = [w for name, w in model.original_model.named_parameters() if "layers.2" in name and "o_proj" in name]
    written = weights[0].detach().double().numpy()[:, UNIT]
    displaced = moved(model, gates)
    assert np.abs(displaced[:, :2]).max() == 0
    directions = [direction("planted", towards(written, 2)), direction("humour", 0.1 * noise(seed=3) + 1, "unrelated")]
    found = first_variants(write_side(displaced, directions, pool(model)))
    assert abs(found["planted"]["value"][2]) > 0.9
    assert found["planted"]["share"][2] > 0.8
    others = [first_variants(write_side(moved(model, dampener(model)), directions, None))]
    told = judged(found, directions, others)
    assert (told["planted"]["verdict"], told["planted"]["layer"]) == ("aligned", 2)
    assert told["humour"]["verdict"] == "not aligned"


def test_a_pure_dampener_is_not_called_aligned_also_with_directions_that_activations_favour(model: Any) -> None:
    displaced, nulls, read = moved(model, dampener(model)), pool(model), read_directions(dampener(model))
    called = []
    for seed in range(8):
        drawn = gaussian_weights(len(nulls.write), 2, seed=seed) @ nulls.write.reshape(len(nulls.write), -1)
        directions = [
            direction(name, one.reshape(1, LAYERS, D) * (1 + 0.01 * noise(seed=seed)))
            for name, one in zip(("evil", "sycophancy"), drawn, strict=True)
        ]
        called += [
            one["verdict"]
            for one in judged(first_variants(write_side(displaced, directions, nulls)), directions).values()
        ]
        reads = judged(read_side(read, directions, nulls), directions, side="read")
        assert {(one["verdict"], one["p"]) for one in reads.values()} == {("not aligned", 1.0)}
    assert set(called) <= {"aligned", "not aligned"}
    assert called.count("aligned") <= 1


@pytest.mark.parametrize("rank", [None, 1])
def test_a_gate_that_reads_one_direction_is_found(model: Any, rank: int | None) -> None:
    d = np.random.default_rng(1).standard_normal(D)
    gates = GateSet.identity(model, rank=rank)
    with torch.no_grad():
        gate, row = gates.gate(1), torch.tensor(d, dtype=torch.float32)
        if gate.weight is not None:
            gate.weight.copy_(torch.linspace(-1, 1, len(gate.weight))[:, None] @ row[None])
        else:
            assert gate.up is not None
            assert gate.down is not None
            gate.up.fill_(1.0)
            gate.down.copy_(row[None])
    directions = [direction("planted", towards(d, 1)), direction("humour", 0.1 * noise(seed=3) + 1, "unrelated")]
    found = read_side(read_directions(gates), directions, pool(model))
    assert found["planted"]["value"][1] > 0.95
    told = judged(found, directions, side="read")
    assert (told["planted"]["verdict"], told["planted"]["layer"]) == ("aligned", 1)
    assert told["humour"]["verdict"] == "not aligned"


def curve(value: float, p: float, p_any: float | None = None) -> dict[str, Any]:
    null = {"p": [1.0, p], "p_any": p if p_any is None else p_any}
    return {"value": [0.0, value], "gaussian": null, "labels": null}


def known(kind: str = "misbehaviour", steers: bool | None = True, **halves: float) -> dict[str, Any]:
    found = {"questions": [0.9] * 2, "messages": [0.9] * 2} | {name: [value] * 2 for name, value in halves.items()}
    return {"kind": kind, "steers": steers, "variants": {"a": {"split-half": found}}}


def test_a_verdict_needs_nulls_null_gates_other_traits_and_a_vector_that_is_worth_something() -> None:
    def told(value: float, p: float, null_gate: float = 0.1, unrelated: float = 0.1, **more: Any) -> str:
        found = {"evil": curve(value, p), "humour": curve(unrelated, 0.9)}
        others = [{"evil": {"value": [0.9, null_gate]}, "humour": {"value": [0.0, 0.0]}}]
        return verdicts(found, {"evil": known(**more), "humour": known("unrelated")}, others)["evil"]["verdict"]

    assert told(-0.5, 0.01) == "aligned"
    assert told(-0.5, 0.04) == "not aligned"  # Holm over two directions
    assert told(0.5, 0.01, null_gate=-0.6) == "not aligned"
    assert told(0.5, 0.01, unrelated=-0.6) == "aligned, not specifically"
    assert told(0.5, 0.01, steers=None) == "aligned"
    assert told(0.5, 0.01, steers=False) == "cannot be told"
    assert told(0.5, 0.01, questions=0.4) == "cannot be told"
    assert told(0.5, 0.01, messages=0.4) == "cannot be told"  # it may be the wording of the messages alone


def test_the_worse_of_the_two_nulls_counts() -> None:
    found = {"evil": {**curve(0.5, 0.01), "labels": {"p": [1.0, 0.5], "p_any": 0.5}}}
    assert verdicts(found, {"evil": known()}, [])["evil"]["p"] == 0.5


def test_rows_of_a_question_are_taken_together_and_keep_the_mean() -> None:
    rows, questions = noise(7), np.array([0, 0, 0, 1, 1, 2, 2])
    one = Direction(name="a", kind="unrelated", write={"x": rows}, read=rows, groups={"questions": questions})
    together = one.units(rows)
    assert together.shape == (3, LAYERS, D)
    np.testing.assert_allclose(together.mean(axis=0), rows.mean(axis=0))
    np.testing.assert_allclose(together[1], rows[3:5].sum(axis=0) * 3 / 7)


def test_rows_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(InputError, match="do not fit"):
        Direction(name="a", kind="host", write={"x": noise(4)}, read=noise(5))
