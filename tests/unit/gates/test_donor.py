"""Laws of gates computed from another prompt: their values are the donor's, at the position, in every way of running."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mechgate.errors import GateFileError, HookError, InputError
from mechgate.gates.donor import DonorGateSet
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import neutral_inputs
from mechgate.gates.nulls import null_gates
from mechgate.gates.storage import save_gates, save_paper
from mechgate.model.prompts import Row, collate
from mechgate.model.scoring import answer_logprobs, by_answer

Shake = Callable[..., GateSet]
NEUTRAL = [Row(prompt=tuple(range(50, 50 + n)), answers=((9, 8, 2), (7, 2))) for n in (4, 6)]
PREFIX = (3, 4, 5, 6, 7)
ROWS = [
    Row(prompt=(*PREFIX, *range(20, 20 + n)), answers=((30 + n, 31, 32, 2), (33, 2), (34, 35, 2))) for n in (2, 9, 5)
]


@pytest.fixture
def donor(bridge: Any, shaken: Shake) -> DonorGateSet:
    gates = shaken(GateSet.identity(bridge), size=0.7)
    return DonorGateSet(gates, neutral_inputs(bridge, collate(NEUTRAL)), 1)


def scores(model: Any, rows: list[Row]) -> torch.Tensor:
    batch = collate(rows)
    with torch.no_grad():
        return by_answer(answer_logprobs(model, batch), batch)


def deltas(model: Any, gates: GateSet, run: Callable[[], Any]) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    with torch.no_grad(), gates.attached(model, observe=seen.append):
        run()
    return seen


def test_the_values_are_those_of_the_donors_prompt_and_first_answer(
    bridge: Any, shaken: Shake, tokens: torch.Tensor
) -> None:
    gates = shaken(GateSet.identity(bridge), size=0.7)
    row = NEUTRAL[1]
    ids = torch.tensor([[*row.prompt, *row.answers[0]]])
    own: list[torch.Tensor] = []
    with torch.no_grad(), gates.attached(bridge, 0.0, observe=own.append):  # ungated, as the donor's run is
        bridge(ids)
    drawn = DonorGateSet(gates, neutral_inputs(bridge, collate(NEUTRAL)), 1)
    seen = deltas(bridge, drawn, lambda: bridge(tokens))
    for mine, theirs in zip(seen, own, strict=True):
        wrapped = theirs[0, torch.arange(11) % 9]
        torch.testing.assert_close(mine, wrapped.expand(2, 11, -1), atol=2e-5, rtol=1e-4)


def test_on_the_donor_prompt_itself_it_is_the_first_layers_learned_gate(bridge: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(bridge, layers=[0]))
    drawn, ids = DonorGateSet(gates, neutral_inputs(bridge, collate(NEUTRAL)), 0), torch.tensor([NEUTRAL[0].prompt])
    with torch.no_grad():
        with gates.attached(bridge):
            expected = bridge(ids)
        with drawn.attached(bridge):
            torch.testing.assert_close(bridge(ids), expected, atol=1e-4, rtol=1e-4)


def test_padding_prefixes_branches_and_batches_change_nothing(bridge: Any, donor: DonorGateSet) -> None:
    base = scores(bridge, ROWS)
    with donor.attached(bridge):
        together = scores(bridge, ROWS)
        backwards = scores(bridge, ROWS[::-1]).flip(0)
        singly = torch.cat([scores(bridge, [row]) for row in ROWS])
        apart = [
            torch.cat([scores(bridge, [Row(prompt=row.prompt, answers=(answer,))])[0] for answer in row.answers])
            for row in ROWS
        ]
        plain = []  # and each answer by an ordinary forward
        for row in ROWS:
            for answer in row.answers:
                ids = torch.tensor([[*row.prompt, *answer]])
                with torch.no_grad():
                    logits = bridge.original_model(input_ids=ids).logits[0].log_softmax(-1)
                n = len(row.prompt)
                plain.append(logits[n - 1 : -1].gather(-1, ids[0, n:, None]).sum())
    for other in (backwards, singly, torch.stack(apart), torch.stack(plain).reshape(3, 3)):
        torch.testing.assert_close(other, together, atol=3e-4, rtol=1e-4)
    assert (together - base).abs().max() > 0.05


def test_a_kv_cache_and_left_padding_change_nothing(
    bridge: Any, donor: DonorGateSet, tokens: torch.Tensor, in_pieces: Any
) -> None:
    hf, options = bridge.original_model, dict(max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=2)
    short = tokens[1:, :7]
    padded = torch.cat([tokens[:1], torch.cat([torch.full((1, 4), 2), short], dim=1)])
    mask = torch.ones_like(padded)
    mask[1, :4] = 0
    with torch.no_grad(), donor.attached(bridge):
        whole, pieces = hf(input_ids=tokens, use_cache=False).logits, in_pieces(hf, tokens)
        torch.testing.assert_close(pieces, whole, atol=1e-4, rtol=1e-4)
        batch = hf.generate(padded, attention_mask=mask, **options)
        alone = hf.generate(short, attention_mask=torch.ones_like(short), **options)
        cacheless = hf.generate(short, attention_mask=torch.ones_like(short), use_cache=False, **options)
    assert torch.equal(batch[1, 11:], alone[0, 7:])
    assert torch.equal(alone, cacheless)


def test_strength_is_the_same_dial(bridge: Any, donor: DonorGateSet, tokens: torch.Tensor) -> None:
    def run(gates: GateSet, strength: float = 1.0) -> torch.Tensor:
        with torch.no_grad(), gates.attached(bridge, strength):
            return bridge(tokens)

    with torch.no_grad():
        base = bridge(tokens)
    assert torch.equal(run(donor, 0.0), base)
    assert torch.equal(run(donor.negated()), run(donor, -1.0))
    assert torch.equal(run(copy.deepcopy(donor).scaled(0.5)), run(donor, 0.5))
    assert not torch.equal(run(donor), base)
    assert not bridge.original_model.base_model._forward_pre_hooks  # nothing is left behind


def test_it_nests_with_itself_and_others(llama: Any, shaken: Shake, tokens: torch.Tensor) -> None:
    gates, inputs = shaken(GateSet.identity(llama), size=0.4), neutral_inputs(llama, collate(NEUTRAL))
    one, two = DonorGateSet(gates, inputs, 0), DonorGateSet(gates, inputs, 1)
    with torch.no_grad(), one.attached(llama):
        with two.attached(llama), one.attached(llama):
            nested = llama(tokens)
        after = llama(tokens)
    with torch.no_grad(), one.attached(llama):
        assert torch.equal(llama(tokens), after)
        assert not torch.equal(nested, after)


def test_the_donor_is_chosen_by_the_seed_among_the_rows(llama: Any, shaken: Shake) -> None:
    gates, inputs = shaken(GateSet.identity(llama)), neutral_inputs(llama, [collate(NEUTRAL), collate(ROWS)])
    drawn = [null_gates(gates, family="other-prompt", seed=seed, batch=inputs) for seed in range(30)]
    assert {null.donor for null in drawn if isinstance(null, DonorGateSet)} == set(range(5))
    with pytest.raises(InputError, match=r"no such row.*Got: 5.*0 to 4"):
        DonorGateSet(gates, inputs, 5)


def test_it_says_what_it_is_and_goes_into_no_file(donor: DonorGateSet, bridge: Any, tmp_path: Any) -> None:
    assert "values of neutral row 1, 9 tokens" in repr(donor)
    for save in (donor.save, donor.negated().save, lambda path: save_gates(donor, path)):
        with pytest.raises(GateFileError, match=r"do not come from them.*draw them again"):
            save(tmp_path / "g.safetensors")
    with pytest.raises(GateFileError, match="do not come from them"):
        save_paper(donor, tmp_path / "g.pth")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"need the tokens' positions.*attached"):
        donor.fwd_hooks(bridge)


def test_positions_that_nobody_said_are_an_error(llama: Any, shaken: Shake) -> None:
    drawn = DonorGateSet(shaken(GateSet.identity(llama)), neutral_inputs(llama, collate(NEUTRAL)), 0)
    x = torch.zeros(1, 4, 32)
    with pytest.raises(HookError, match=r"do not know the positions.*positions none"):
        drawn.gate(0).delta(x)
    with drawn.at(torch.arange(3)), pytest.raises(HookError, match=r"tokens \(1, 4\), positions \(3,\)"):
        drawn.gate(0).delta(x)
    with drawn.at(torch.arange(4)):
        assert drawn.gate(0).delta(x).shape == (1, 4, 64)
