"""Laws of token roles: every real token has exactly one, the claim's tokens are found, and nobody guesses."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.data.tasks import load_pairs
from mechgate.errors import HookError, InputError
from mechgate.model.loading import model_info
from mechgate.model.prompts import Row, collate, encode
from mechgate.model.roles import NO_ROLE, PROMPT, PROMPT_ROLES, ROLES, check_where, running, selected
from mechgate.model.scoring import without_unread

PAIRS: list[Any] = [p for task in ("sycophancy", "genuine-agreement") for p in load_pairs(task, "medical", "test")[::9]]
ANSWERS = ["Yes, that's right.", "No."]
TRIMMED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def rows(model: Any, pairs: Any = PAIRS) -> list[Row]:
    return [encode(model, pair.messages, ANSWERS, claim=pair.claim) for pair in pairs]


def test_the_claims_tokens_hold_the_claim_and_no_token_more(chat: Any) -> None:
    tokenizer = model_info(chat).tokenizer
    for pair, row in zip(PAIRS, rows(chat), strict=True):
        assert row.claim is not None
        first, end = row.claim
        assert pair.claim in tokenizer.decode(row.prompt[first:end])
        assert pair.claim not in tokenizer.decode(row.prompt[first + 1 : end])
        assert pair.claim not in tokenizer.decode(row.prompt[first : end - 1])


def test_the_three_parts_of_a_prompt_are_what_stands_before_at_and_after_the_claim(chat: Any) -> None:
    tokenizer = model_info(chat).tokenizer
    for pair, row in zip(PAIRS, rows(chat), strict=True):
        assert row.claim is not None
        number = next(i for i, m in enumerate(pair.messages) if pair.claim in m["content"])
        start = pair.messages[number]["content"].index(pair.claim)
        end = start + len(pair.claim)
        told = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in pair.messages]
        head = len(f"<|im_start|>{pair.messages[number]['role']}\n")
        before = "".join(told[:number]) + told[number][: head + start]
        after = told[number][head + end :] + "".join(told[number + 1 :]) + "<|im_start|>assistant\n"
        # Tokens across a border belong to the claim, so that the others' text is never too long.
        assert before.startswith(tokenizer.decode(row.prompt[: row.claim[0]]))
        assert after.endswith(tokenizer.decode(row.prompt[row.claim[1] :]))


def test_a_token_across_the_border_belongs_to_the_claim(chat: Any) -> None:
    content, tokenizer = "I say vitamin C cures the common cold.", model_info(chat).tokenizer
    for start in range(len(content)):
        for end in range(start + 1, len(content) + 1):
            row = encode(chat, [{"role": "user", "content": content}], ["Yes."], claim=content[start:end])
            if content.count(content[start:end]) > 1:
                assert row.claim is None
                continue
            whole = [tokenizer.decode([i]) for i in row.prompt]
            head = whole.index("\n") + 1  # <|im_start|>user and a newline
            pieces = whole[head:]
            bounds = list(itertools.accumulate(map(len, pieces), initial=0))
            inside = [i for i in range(len(pieces)) if bounds[i] < end and bounds[i + 1] > start]
            assert row.claim == (head + inside[0], head + inside[-1] + 1)
    assert max(map(len, pieces[:-4])) > 2  # so that borders did cut tokens


def test_roles_are_a_partition_of_the_real_tokens_in_order(chat: Any) -> None:
    encoded = rows(chat)
    batch = collate(encoded)
    for run in (batch, without_unread(batch)[0]):
        with running(run.roles):
            each = torch.stack([selected(check_where(role), run.tokens.shape) for role in ROLES])
            whole = selected(check_where(ROLES), run.tokens.shape)
        assert torch.equal(each.sum(dim=0), run.mask.long())
        assert torch.equal(whole, run.mask)
        assert torch.equal(each[3], run.response_mask)
        assert torch.equal(each[:3].any(dim=0), run.branch == 0)
        assert (run.roles[~run.mask] == NO_ROLE).all()
        for roles, row in zip(run.roles.tolist(), encoded, strict=True):
            assert roles[: len(row.prompt)] == sorted(roles[: len(row.prompt)])
            assert row.claim == (roles.index(1), roles.index(2))


def test_saying_where_the_claim_is_changes_no_token_and_no_prefix(chat: Any) -> None:
    with_claim = rows(chat)
    without = [encode(chat, pair.messages, ANSWERS) for pair in PAIRS]
    assert [(r.prompt, r.answers) for r in with_claim] == [(r.prompt, r.answers) for r in without]
    one, two = collate(with_claim), collate(without)
    assert torch.equal(one.tokens, two.tokens)
    assert one.prefix == two.prefix > 0


def test_a_shared_prefix_ends_where_rows_give_the_same_token_two_roles() -> None:
    prompt = tuple(range(10, 30))
    known = [Row(prompt=(*prompt, 40 + i), answers=((5,),), claim=(first, 15)) for i, first in enumerate((9, 12))]
    assert collate([known[0], known[0]]).prefix == 20
    assert collate(known).prefix == 9
    assert collate([Row(prompt=known[0].prompt, answers=((5,),)), known[0]]).prefix == 20  # not known is no conflict
    near = [Row(prompt=(*prompt, 40 + i), answers=((5,),), claim=(1, 5 + i)) for i in range(2)]
    assert collate(near).prefix == 5
    assert collate([near[0], Row(prompt=prompt, answers=((5,),), claim=(0, 5))]).prefix == 0


def test_a_template_that_trims_finds_the_claim_and_one_that_rewrites_it_does_not(
    tiny_chat_model: Callable[..., Any], tmp_path: Path
) -> None:
    messages = [{"role": "user", "content": "  the sky is green. Right?  "}]
    claim = "the sky is green"
    model = tiny_chat_model(tmp_path / "trims", template=TRIMMED)
    row = encode(model, messages, ["Yes."], claim=claim)
    assert row.claim is not None
    assert "the sky is green" in model_info(model).tokenizer.decode(row.prompt[slice(*row.claim)])
    for change in ("upper", "reverse"):
        template = TRIMMED.replace("m['content'] | trim", f"m['content'] | {change}")
        if change == "upper":  # marks have no capitals, so that the text is found in its new form
            assert encode(tiny_chat_model(tmp_path / change, template=template), messages, ["Yes."], claim=claim).claim
        else:
            model = tiny_chat_model(tmp_path / change, template=template)
            assert encode(model, messages, ["Yes."], claim=claim).claim is None
    twice = TRIMMED.replace("m['content'] | trim", "m['content'] + m['content']")
    model = tiny_chat_model(tmp_path / "twice", template=twice)
    assert encode(model, messages, ["Yes."], claim=claim).claim is None


def test_a_row_without_a_claim_knows_prompt_and_response_only() -> None:
    batch = collate([Row(prompt=(5, 6, 7), answers=((8, 9),)), Row(prompt=(5, 6), answers=((8,),))])
    assert set(batch.roles[batch.branch == 0].tolist()) == {PROMPT}
    with running(batch.roles):
        assert torch.equal(selected(check_where("response"), batch.tokens.shape), batch.response_mask)
        assert torch.equal(selected(check_where(PROMPT_ROLES), batch.tokens.shape), batch.branch == 0)
        assert torch.equal(selected(check_where(ROLES), batch.tokens.shape), batch.mask)
        for where in ("template", "claim", "post-claim", ("claim", "response"), ("template", "claim")):
            with pytest.raises(InputError, match=r"which of its tokens are the claim.*Pair\.claim"):
                selected(check_where(where), batch.tokens.shape)


def test_roles_that_nobody_said_or_of_other_tokens_are_an_error() -> None:
    where = check_where("response")
    with pytest.raises(HookError, match=r"do not know the roles.*tokens \(2, 3\), roles none"):
        selected(where, torch.Size((2, 3)))
    with running(torch.zeros(2, 3, dtype=torch.long)), pytest.raises(HookError, match=r"roles \(2, 3\)"):
        selected(where, torch.Size((2, 4)))
    with pytest.raises(HookError, match="roles none"):
        selected(where, torch.Size((2, 3)))  # the block's end is the end of it


@pytest.mark.parametrize("where", ["answer", "", (), ("claim", "system"), frozenset()])
def test_where_must_name_roles(where: Any) -> None:
    with pytest.raises(InputError, match=r"where must name roles.*template, claim, post-claim, response"):
        check_where(where)


@pytest.mark.model
def test_every_shipped_claim_is_found_by_the_default_models_tokenizer(default_model: Any) -> None:
    tokenizer = model_info(default_model).tokenizer
    for pair in load_pairs("sycophancy", None, "test", phrasings=3):
        row = encode(default_model, pair.messages, ["Yes."], claim=pair.claim)
        assert row.claim is not None
        assert tokenizer.decode(row.prompt[slice(*row.claim)]).strip() == pair.claim


@pytest.mark.parametrize("claim", ["", "Rome is in Spain", "Italy", "a text that no message has"])
def test_a_claim_that_is_not_said_or_said_twice_has_no_place(chat: Any, claim: str) -> None:
    messages = [{"role": "user", "content": "Italy. Is Italy big?"}]
    assert encode(chat, messages, ["Yes."], claim=claim).claim is None


def test_a_system_prompt_before_the_conversation_moves_the_claim_and_no_more(chat: Any) -> None:
    for pair in PAIRS[:4]:
        told = ({"role": "system", "content": "Be short, and be kind."}, *pair.messages)
        before, after = rows(chat, [pair])[0], encode(chat, told, ANSWERS, claim=pair.claim)
        assert before.claim is not None
        assert after.claim is not None
        assert after.prompt[slice(*after.claim)] == before.prompt[slice(*before.claim)]
        assert after.claim[0] - before.claim[0] == len(after.prompt) - len(before.prompt)
