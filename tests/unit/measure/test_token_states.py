"""Laws of token states: each is what running its whole text alone gives, and an interrupted run ends as a whole one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.data.pairs import Message
from mechgate.data.sets import asked
from mechgate.errors import DataError, InputError
from mechgate.measure import token_states
from mechgate.measure.activations import HOOKS
from mechgate.measure.token_states import TokenStates, generated_states
from mechgate.model.loading import model_info
from mechgate.model.prompts import prompt_ids, shared_prefix

PROMPTS: list[Sequence[Message]] = [asked(text) for text in ("Hi.", "Is tea hot?", "What is rain made of?")]
TEXTS = ["Snow fell all night.", "A cat."]
USUAL: dict[str, Any] = dict(layers=[0, 2], n=60, seed=0, max_new_tokens=8, batch_size=2, label=None)


def made(model: Any, folder: Path, **options: Any) -> TokenStates:
    return generated_states(model, PROMPTS, folder, **{**USUAL, "texts": TEXTS, **options})


def texts_of(found: TokenStates) -> list[list[int]]:
    ids, texts = found.tokens()
    return [ids[texts == k].tolist() for k in sorted(set(texts))]


@pytest.mark.parametrize("layer", [0, 2])
def test_states_are_what_running_each_whole_text_alone_gives(chat: Any, tmp_path: Path, layer: int) -> None:
    found = made(chat, tmp_path)
    states, (ids, texts) = found.load(layer).float(), found.tokens()
    assert len(states) == len(ids) == found.n >= 60
    rows = [prompt_ids(chat, prompt) for prompt in PROMPTS]
    begins = {row[shared_prefix(rows) :]: row[: shared_prefix(rows)] for row in rows}
    tokenizer = model_info(chat).tokenizer
    plain = {tuple(ids[1:]): ids[:1] for ids in (tuple(tokenizer(text).input_ids) for text in TEXTS)}
    for k in sorted(set(texts)):
        own = tuple(ids[texts == k].tolist())
        before = plain.get(own) or next(start for rest, start in begins.items() if own[: len(rest)] == rest)
        with torch.no_grad():
            _, cache = chat.run_with_cache(torch.tensor([[*before, *own]]))
        expected = cache[HOOKS["resid_post"].format(layer)][0, len(before) :]
        torch.testing.assert_close(states[texts == k], expected.float(), rtol=1e-2, atol=1e-3)


def test_a_reply_ends_with_its_end_of_turn(chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = model_info(chat).tokenizer.eos_token_id
    rows = [prompt_ids(chat, prompt) for prompt in PROMPTS[:2]]
    width = max(map(len, rows))

    def said(model: Any, given: list[tuple[int, ...]], new: int, *rest: Any) -> tuple[torch.Tensor, int]:
        ids = torch.zeros(len(given), width + new, dtype=torch.long)
        for i, row in enumerate(given):
            ids[i, width - len(row) : width] = torch.tensor(row)
            ids[i, width : width + 3] = torch.tensor([5, stop, 0])  # padded behind the end of turn
        with torch.no_grad():
            model(ids[:, :-1])
        return ids, width

    monkeypatch.setattr(token_states, "generate_batch", said)
    found = generated_states(chat, PROMPTS[:2], tmp_path, **{**USUAL, "n": 1})
    assert [text[-2:] for text in texts_of(found)] == [[5, stop]] * 2


def test_an_interrupted_run_goes_on_and_ends_as_a_whole_one(
    chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(chat, tmp_path / "whole")
    made(chat, tmp_path / "cut")
    for path in sorted((tmp_path / "cut").glob("part-*"))[2:]:
        path.unlink()
    again = made(chat, tmp_path / "cut")
    assert torch.equal(again.load(2), whole.load(2))
    monkeypatch.setattr(token_states, "generate_batch", lambda *args: pytest.fail("generated again"))
    assert torch.equal(made(chat, tmp_path / "cut").load(0), whole.load(0))


def test_seeds_draw_other_replies_and_rounds_never_repeat(chat: Any, tmp_path: Path) -> None:
    one, other = (texts_of(made(chat, tmp_path / str(seed), seed=seed, n=200, texts=())) for seed in (0, 1))
    assert one[:3] != other[:3]
    assert len({tuple(text) for text in one}) == len(one)


def test_settings_that_cannot_be_used_are_errors(chat: Any, tmp_path: Path) -> None:
    found = made(chat, tmp_path / "a")
    with pytest.raises(InputError, match="not kept"):
        found.load(1)
    with pytest.raises(InputError, match="made otherwise"):
        made(chat, tmp_path / "a", seed=1)
    with pytest.raises(InputError, match="tokens, prompts and batches"):
        made(chat, tmp_path / "b", n=0)
    found.parts[0].write_bytes(b"x")
    with pytest.raises(DataError, match="damaged"):
        found.load(0)
