"""Laws of neutral inputs: real tokens only, each once, as the ungated model sees them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import neutral_inputs
from mechgate.model import hooking
from mechgate.model.prompts import Row, collate

PREFIX = (3, 4, 5, 6, 7)
ROWS = [Row(prompt=(*PREFIX, *range(20 + n, 20 + 2 * n)), answers=((30, 2), (31, 32, 2))) for n in (2, 6, 3)]


def test_each_real_token_is_kept_once_whatever_the_batches(bridge: Any) -> None:
    whole = neutral_inputs(bridge, collate(ROWS))
    assert collate(ROWS).prefix == 5
    assert (whole.n_tokens, whole.n_rows) == (sum(map(len, ROWS)), 3)
    parts = neutral_inputs(bridge, [collate(ROWS[:2]), collate(ROWS[2:])])
    alone = neutral_inputs(bridge, [replace(collate([row]), prefix=0) for row in ROWS])
    for other in (parts, alone):
        for name in ("row", "position", "branch"):
            assert torch.equal(getattr(whole, name), getattr(other, name))
        for layer in range(3):
            torch.testing.assert_close(other.x[layer], whole.x[layer], atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(other.z[layer], whole.z[layer], atol=2e-5, rtol=1e-5)
    positions = [*range(7), 7, 8, 7, 8, 9]  # both answers follow the prompt
    assert whole.position[whole.row == 0].tolist() == positions
    assert whole.branch[whole.row == 0].tolist() == [0] * 7 + [1, 1, 2, 2, 2]


def test_they_are_what_gates_read_and_multiply(bridge: Any, tokens: torch.Tensor) -> None:
    rows = [Row(prompt=tuple(ids), answers=((2,),)) for ids in tokens.tolist()]
    inputs = neutral_inputs(bridge, collate(rows), [0, 2])
    assert sorted(inputs.x) == sorted(inputs.z) == sorted(inputs.w_o) == [0, 2]
    prompt = inputs.branch == 0
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens)
    for layer in (0, 2):
        for kept, name in ((inputs.x, "hook_in"), (inputs.z, "hook_z")):
            expected = cache[f"blocks.{layer}.attn.{name}"].flatten(0, 1)
            torch.testing.assert_close(kept[layer][prompt], expected, atol=2e-5, rtol=1e-5)


def test_the_output_projection_is_the_models_own(
    bridge: Any, tokens: torch.Tensor, shaken: Callable[..., GateSet]
) -> None:
    rows = [Row(prompt=tuple(ids), answers=((2,),)) for ids in tokens.tolist()]
    inputs, gates = neutral_inputs(bridge, collate(rows)), shaken(GateSet.identity(bridge, layers=[0]))
    outputs: list[torch.Tensor] = []
    with torch.no_grad(), hooking.attached(bridge, {"blocks.0.attn.o.hook_out": outputs.append}):
        bridge(tokens)
        with gates.attached(bridge):
            bridge(tokens)
        prompt = inputs.branch == 0
        delta = gates.gate(0).delta(inputs.x[0][prompt])
    change = (inputs.z[0][prompt].flatten(1) * delta) @ inputs.w_o[0]
    torch.testing.assert_close((outputs[1] - outputs[0]).flatten(0, 1), change, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("batch", "words"), [([], "an empty list"), ([1], "list"), ("text", "str"), (ROWS, "list")], ids=str
)
def test_what_is_no_batch_is_refused(llama: Any, batch: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"must be a Batch.*Got: {words}.*collate"):
        neutral_inputs(llama, batch)
