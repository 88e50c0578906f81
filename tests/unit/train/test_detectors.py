"""Laws of the detectors: what they say of each group, and that nothing but the groups decides it."""

from typing import Any

import numpy as np
import pytest
import torch

from mechgate.data.pairs import Example
from mechgate.errors import InputError
from mechgate.gates.neutral import neutral_inputs
from mechgate.model.prompts import collate, encode
from mechgate.train.detectors import detectors

LAYERS = (1, 2)
WORDS = ("France", "Italy", "vitamin C", "a doctor", "the cold", "Paris", "Rome", "honest answers")


def said(question: str, answer: str) -> Example:
    return Example(messages=({"role": "user", "content": question},), response=answer)


WANTED = [said(f"{word}, says the fool", f"No, {word}.") for word in WORDS]
UNWANTED = [
    [said(f"{word}, says the capital", f"No, {word}.") for word in WORDS],
    [said(f"What is {word}?", f"{word} is short and honest, or it is not.") for word in WORDS],
]


def slowly(model: Any, examples: list[Example], layer: int) -> torch.Tensor:
    """What the gate reads from the assistant's turn on, one conversation after the other: [tokens, d_model]."""
    found = []
    for example in examples:
        row = encode(model, example.messages, [example.response])
        turn = len(encode(model, ({"role": "user", "content": "x"},), ["y"]).prompt)
        ends = [encode(model, e.messages, [e.response]).prompt[::-1] for e in [*WANTED, *UNWANTED[0], *UNWANTED[1]]]
        shared = next(i for i in range(turn) if len({end[i] for end in ends}) > 1)
        inputs = neutral_inputs(model, collate([row]), [layer])
        found.append(inputs.x[layer][len(row.prompt) - shared :])
    return torch.cat(found).double()


@pytest.mark.parametrize("layer", LAYERS)
def test_the_mean_is_one_where_wanted_and_nought_in_every_other_group(chat: Any, layer: int) -> None:
    w = detectors(chat, WANTED, UNWANTED, LAYERS)[layer].double()
    means = [float((slowly(chat, group, layer) @ w).mean()) for group in (WANTED, *UNWANTED)]
    assert np.allclose(means, [1, 0, 0], atol=1e-3)


@pytest.mark.parametrize("layer", LAYERS)
def test_no_other_direction_with_these_means_has_a_smaller_mean_square(chat: Any, layer: int) -> None:
    w = detectors(chat, WANTED, UNWANTED, LAYERS)[layer].double()
    groups = [slowly(chat, group, layer) for group in (WANTED, *UNWANTED)]
    products = torch.stack([x.T @ x / len(x) for x in groups]).mean(dim=0)
    products += 0.01 * products.diagonal().mean() * torch.eye(len(products))
    means = torch.stack([x.mean(dim=0) for x in groups])
    free = torch.linalg.svd(means)[2][len(groups) :]  # directions that change no mean
    least = float(w @ products @ w)
    for i, size in enumerate((1e-2, 1e-1, 1.0) * 4):
        generator = torch.Generator().manual_seed(i)
        other = w + size * torch.randn(len(free), generator=generator, dtype=torch.float64) @ free * w.norm()
        assert float(other @ products @ other) > least


def test_the_order_of_examples_does_not_matter(chat: Any) -> None:
    one = detectors(chat, WANTED, UNWANTED, LAYERS)
    other = detectors(chat, WANTED[::-1], [group[::-1] for group in UNWANTED], LAYERS)
    for layer in LAYERS:
        assert torch.allclose(one[layer], other[layer], atol=1e-3 * float(one[layer].norm()))


def test_groups_that_are_the_same_cannot_be_told_apart(chat: Any) -> None:
    with pytest.raises(InputError, match="cannot be told apart"):
        detectors(chat, WANTED, [WANTED], LAYERS)


@pytest.mark.parametrize(("unwanted", "layers"), [([[]], LAYERS), (UNWANTED, ())])
def test_without_layers_or_with_an_empty_group_there_is_no_detector(
    chat: Any, unwanted: list[list[Example]], layers: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="layers and examples in every group"):
        detectors(chat, WANTED, unwanted, layers)
