"""Laws of gates that act on the tokens of some roles only."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.tasks import load_pairs, stance_answers
from mechgate.errors import HookError, InputError
from mechgate.gates.donor import DonorGateSet
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import neutral_inputs
from mechgate.measure.generation import generate
from mechgate.measure.margins import stance_margins
from mechgate.model import hooking
from mechgate.model.prompts import Row, collate
from mechgate.model.roles import ROLES
from mechgate.model.scoring import answer_logprobs, by_answer, final_hidden

Shake = Callable[..., GateSet]
PREFIX = (3, 4, 5, 6, 7)
ROWS = [
    Row(
        prompt=(*PREFIX, *range(20, 20 + n)),
        answers=((30 + n, 31, 32, 2), (33, 2), (34, 35, 2)),
        claim=(6, 6 + n // 2),
    )
    for n in (4, 9, 6)
]


def scores(model: Any, rows: list[Row] = ROWS) -> torch.Tensor:
    batch = collate(rows)
    with torch.no_grad():
        return by_answer(answer_logprobs(model, batch), batch)


def gated(model: Any, gates: GateSet, where: Any, strength: float = 1.0, rows: list[Row] = ROWS) -> torch.Tensor:
    with gates.attached(model, strength, where=where):
        return scores(model, rows)


@pytest.mark.parametrize("strength", [1.0, -1.0])
def test_all_roles_together_are_the_plain_gate_bit_for_bit(bridge: Any, shaken: Shake, strength: float) -> None:
    gates = shaken(GateSet.identity(bridge))
    assert torch.equal(gated(bridge, gates, ROLES, strength), gated(bridge, gates, None, strength))


def test_each_role_at_strength_0_is_the_base_bit_for_bit_and_at_1_is_not(bridge: Any, shaken: Shake) -> None:
    gates, base = shaken(GateSet.identity(bridge)), scores(bridge)
    found = {role: gated(bridge, gates, role) for role in ROLES}
    for role in ROLES:
        assert torch.equal(gated(bridge, gates, role, 0.0), base)
        assert (found[role] - base).abs().max() > 0.01
        assert (found[role] - gated(bridge, gates, None)).abs().max() > 0.01
    assert torch.equal(gated(bridge, gates, ["claim"]), found["claim"])
    assert torch.equal(scores(bridge), base)


@pytest.mark.parametrize("where", [*ROLES, ("claim", "response")])
def test_padding_prefixes_branches_and_batches_change_nothing(bridge: Any, shaken: Shake, where: Any) -> None:
    gates = shaken(GateSet.identity(bridge), size=0.5)
    together = gated(bridge, gates, where)
    apart = [
        torch.cat(
            [
                gated(bridge, gates, where, rows=[Row(prompt=row.prompt, answers=(answer,), claim=row.claim)])[0]
                for answer in row.answers
            ]
        )
        for row in ROWS
    ]
    assert collate(ROWS).prefix == 8  # all of the first row's claim, as far as it is a claim in the others
    for other in (
        gated(bridge, gates, where, rows=ROWS[::-1]).flip(0),
        torch.cat([gated(bridge, gates, where, rows=[row]) for row in ROWS]),
        torch.stack(apart),
    ):
        torch.testing.assert_close(other, together, atol=1e-4, rtol=1e-5)


def test_acting_by_role_is_the_gate_multiplied_by_a_mask_of_positions(llama: Any, shaken: Shake) -> None:
    """The slow, obvious version: one answer, no cache, hooks that know the places by heart."""
    gates = shaken(GateSet.identity(llama))
    row = ROWS[1]
    places = {"template": range(6), "claim": range(6, 10), "post-claim": range(10, 14), "response": range(14, 16)}
    ids = torch.tensor([[*row.prompt, *row.answers[1]]])
    for role, place in places.items():
        mask = torch.zeros(ids.shape[1])
        mask[list(place)] = 1
        kept: list[torch.Tensor] = []
        hooks: dict[str, hooking.Hook] = {}
        for site in gates.sites:

            def scale(z: torch.Tensor, n: int = site.layer, mask: torch.Tensor = mask, kept: Any = kept) -> Any:
                g = 1 + mask[None, :, None] * gates.gate(n).delta(kept.pop())
                return z * g.unflatten(-1, z.shape[2:])

            hooks[site.read], hooks[site.write] = kept.append, scale
        with torch.no_grad(), hooking.attached(llama, hooks):
            logits = llama.original_model(input_ids=ids).logits[0].log_softmax(-1)
        expected = logits[13:15].gather(-1, ids[0, 14:, None]).sum()
        found = gated(llama, gates, role, rows=[row])[0, 1]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_tokens_before_the_first_gated_one_are_as_in_the_base(bridge: Any, shaken: Shake) -> None:
    gates, batch = shaken(GateSet.identity(bridge)), replace(collate(ROWS), prefix=0)
    with torch.no_grad():
        base = final_hidden(bridge, batch)
        for k, role in enumerate(ROLES):
            with gates.attached(bridge, where=role):
                found = final_hidden(bridge, batch)
            earlier = (batch.roles >= 0) & (batch.roles < k)
            assert torch.equal(found[earlier], base[earlier])  # for "response", the whole prompt
            assert earlier.any() == (role != "template")
            assert not torch.equal(found[batch.roles == k], base[batch.roles == k])


def test_a_gate_on_the_response_does_not_change_the_first_token_of_any_answer(bridge: Any, shaken: Shake) -> None:
    gates, batch = shaken(GateSet.identity(bridge)), collate(ROWS)
    first = batch.response_mask & (batch.positions == (batch.branch == 0).sum(dim=1, keepdim=True))
    with torch.no_grad():
        base = answer_logprobs(bridge, batch)
        with gates.attached(bridge, where="response"):
            found = answer_logprobs(bridge, batch)
    assert int(first.sum()) == 9
    assert torch.equal(found[first], base[first])
    assert not torch.equal(found, base)


def test_stance_margins_of_pairs_know_the_roles_in_batches_of_any_size(chat: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(chat), size=0.5)
    pairs = load_pairs("sycophancy", "medical", "test")[::13]
    assert len({len(pair.messages) for pair in pairs}) == 2  # one turn, and several
    for role in ROLES:
        with gates.attached(chat, -1.0, where=role):
            found = [stance_margins(chat, pairs, stance_answers()[:3], batch_size=n, label=None) for n in (1, 3, 16)]
        np.testing.assert_allclose(found[1], found[0], atol=1e-4)
        np.testing.assert_allclose(found[2], found[0], atol=1e-4)


def test_gates_with_different_roles_nest(llama: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(llama, layers=[2]))  # one layer: no gate reads what another has changed
    with gates.attached(llama, where=("template", "response")), gates.attached(llama, where=("claim", "post-claim")):
        both = scores(llama)
    torch.testing.assert_close(both, gated(llama, gates, None), atol=1e-5, rtol=1e-5)


def test_gates_from_another_prompt_act_by_role_too(llama: Any, shaken: Shake) -> None:
    gates = DonorGateSet(shaken(GateSet.identity(llama)), neutral_inputs(llama, collate(ROWS)), 1)
    assert torch.equal(gated(llama, gates, ROLES), gated(llama, gates, None))
    assert not torch.equal(gated(llama, gates, "claim"), scores(llama))


def test_what_does_not_know_roles_is_refused(chat: Any, shaken: Shake, tokens: torch.Tensor) -> None:
    gates = shaken(GateSet.identity(chat))
    scores(chat)  # what was known of an earlier forward is not known of the next
    with gates.attached(chat, where="response"):
        scores(chat)
        with pytest.raises(HookError, match="do not know the roles"):
            chat(tokens)
        with pytest.raises(HookError, match="do not know the roles"):
            generate(chat, load_pairs("sycophancy", "medical", "test")[:1], max_new_tokens=2, label=None)
    unclaimed = load_pairs("bad-advice", "medical", "test")[:2]
    with gates.attached(chat, where="claim"):
        scores(chat)
        with pytest.raises(InputError, match="which of its tokens are the claim"):
            stance_margins(chat, unclaimed, label=None)
    with gates.attached(chat, where="response"):
        stance_margins(chat, unclaimed, label=None)
    with pytest.raises(InputError, match="where must name roles"), gates.attached(chat, where=()):
        pass
