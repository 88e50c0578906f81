"""The second implementation agrees with the first: gates, answer scores, margins, patches, in this process and serialised."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.pairs import Pair
from mechgate.errors import InputError, ModelError
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import answer_scores, margins
from mechgate.measure.patching import patch_heads
from mechgate.model import nnsight_path as path
from mechgate.model.loading import load_model
from mechgate.model.prompts import Row
from mechgate.testing import ARCHITECTURES, chat_tokenizer, tiny_hf, tiny_model

pytest.importorskip("nnsight")
CLOSE = 1e-4
ROWS = [
    Row(prompt=(1, 9, 17, 30, 4), answers=((5, 6, 2), (7, 2))),
    Row(prompt=(1, 9, 17, 31), answers=((5, 2), (8, 9, 10, 2))),
]


def first(logits: torch.Tensor) -> torch.Tensor:
    """One token's logit."""
    return logits[0, -1, 5]


def both(architecture: str) -> tuple[Any, path.Traced]:
    """The same random model as a bridge and under nnsight."""
    return tiny_model(architecture), path.trace_model(tiny_hf(architecture), tokenizer=chat_tokenizer())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gated_logits_answers_and_patches_agree(architecture: str, shaken: Callable[..., GateSet]) -> None:
    model, traced = both(architecture)
    gates = shaken(GateSet.identity(model))
    ids = torch.randint(3, 128, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = model(ids)
    torch.testing.assert_close(path.trace_logits(traced, ids), plain, atol=CLOSE, rtol=0)
    with torch.no_grad(), gates.attached(model, -1.0):
        gated = model(ids)
        scores = answer_scores(model, ROWS)
    torch.testing.assert_close(path.trace_logits(traced, ids, gates=gates, strength=-1.0), gated, atol=CLOSE, rtol=0)
    assert (gated - plain).abs().max() > 0.1
    for ours, theirs in zip(scores, path.trace_scores(traced, ROWS, gates=gates, strength=-1.0), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=CLOSE)

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, 5] - logits[0, -1, 7]

    clean, corrupted = ids.tolist()
    ours = patch_heads(model, clean, corrupted, metric, label=None)
    np.testing.assert_allclose(path.trace_patches(traced, clean, corrupted, metric), ours, atol=CLOSE)
    assert np.ptp(ours) > 0.01


@pytest.mark.parametrize(
    "form",
    [
        dict(granularity="head"),
        dict(granularity="layer"),
        dict(rank=2),
        dict(input="static"),
        dict(layers=[1]),
    ],
)
def test_every_form_of_gates_agrees(form: dict[str, Any], shaken: Callable[..., GateSet]) -> None:
    model, traced = both("llama")
    gates = shaken(GateSet.identity(model, **form)).scaled(0.5)
    ids = torch.randint(3, 128, (2, 9), generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), gates.attached(model, 1.5):
        gated = model(ids)
    torch.testing.assert_close(path.trace_logits(traced, ids, gates=gates, strength=1.5), gated, atol=CLOSE, rtol=0)


def test_patches_into_a_gated_run_agree(shaken: Callable[..., GateSet]) -> None:
    from functools import partial

    model, traced = both("llama")
    gates = shaken(GateSet.identity(model))
    clean, corrupted = [1, 5, 9, 12], [1, 6, 8, 12]
    ours = patch_heads(model, clean, corrupted, first, during=partial(gates.attached, model, -1.0), label=None)
    theirs = path.trace_patches(traced, clean, corrupted, first, gates=gates, strength=-1.0)
    np.testing.assert_allclose(theirs, ours, atol=CLOSE)


def test_serialised_requests_give_the_same(shaken: Callable[..., GateSet]) -> None:
    model, traced = both("llama")
    gates = shaken(GateSet.identity(model))
    here, sent = (path.trace_scores(traced, ROWS, gates=gates, remote=remote) for remote in (False, "local"))
    np.testing.assert_allclose(sent[0], here[0], atol=1e-6)
    clean, corrupted = [1, 5, 9], [1, 6, 8]
    here, sent = (
        path.trace_patches(traced, clean, corrupted, first, gates=gates, remote=remote) for remote in (False, "local")
    )
    np.testing.assert_allclose(sent, here, atol=1e-6)


def test_margins_of_pairs_agree(shaken: Callable[..., GateSet]) -> None:
    tokenizer = chat_tokenizer()
    hf = [tiny_hf("llama", vocab_size=len(tokenizer)) for _ in range(2)]
    model, traced = load_model(hf[0], tokenizer=None, device="cpu"), path.trace_model(hf[1], tokenizer=tokenizer)
    object.__setattr__(model.__dict__["_mechgate_info"], "tokenizer", tokenizer)
    gates = shaken(GateSet.identity(model))
    pairs = [
        Pair(
            id=str(i),
            domain="all",
            messages=({"role": "user", "content": f"I think {claim}."},),
            matching="Yes, so it is.",
            not_matching="No.",
            fact_id=str(i),
            kind="false_claim",
        )
        for i, claim in enumerate(("cats bark", "ice is hot"))
    ]
    with gates.attached(model, -1.0):
        ours = margins(model, pairs, label=None)
    np.testing.assert_allclose(path.trace_margins(traced, pairs, gates=gates, strength=-1.0), ours, atol=CLOSE)


def test_what_cannot_be_sent_or_traced_is_refused_before_anything_runs(shaken: Callable[..., GateSet]) -> None:
    model, traced = both("llama")
    ids = torch.tensor([[1, 5, 9]])
    with pytest.raises(InputError, match="hub models"):
        path.trace_logits(traced, ids, remote=True)
    with pytest.raises(InputError, match="finite"):
        path.trace_logits(traced, ids, gates=GateSet.identity(model), strength=float("nan"))
    with pytest.raises(ModelError, match="another shape"):
        path.trace_logits(traced, ids, gates=GateSet.identity(tiny_model("qwen3")))
    with pytest.raises(InputError, match="equally many tokens"):
        path.trace_patches(traced, [1, 2], [1], first)
    with pytest.raises(InputError, match="equally many answers"):
        path.trace_scores(traced, [])
    with pytest.raises(InputError, match="plain HF model"):
        path.trace_model(model, tokenizer=chat_tokenizer())
    with pytest.raises(InputError, match="needs the tokenizer"):
        path.trace_model(tiny_hf("llama"))
    with pytest.raises(ModelError, match="does not know"):
        path.trace_model(tiny_hf("olmo2"), tokenizer=chat_tokenizer())
