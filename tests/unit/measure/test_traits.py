"""Laws of traits in a model: rows are the trait's messages and questions, and states are those of each reply alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mechgate.data.pairs import Example
from mechgate.data.traits import load_trait
from mechgate.errors import DataError, InputError
from mechgate.measure.activations import activations
from mechgate.measure.generation import generate
from mechgate.measure.traits import READ, trait_prompts, trait_replies, trait_states
from mechgate.model.sites import shape_of

FEW: dict[str, Any] = dict(instructions=2, questions=3)
TRAIT = load_trait("humour")
REPLIES = [{"for": f"Ha, number {k}!", "against": f"Number {k}."} for k in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Any:
    """A tiny chat model with room for the shipped texts."""
    return tiny_chat_model(tmp_path_factory.mktemp("model"), max_position_embeddings=1024)


def test_rows_are_every_question_under_every_pair_of_messages() -> None:
    rows = trait_prompts(TRAIT, 2, 3)
    assert len(rows) == 6
    for k, row in enumerate(rows):
        assert [row[side][1]["content"] for side in ("for", "against")] == [TRAIT.extract[k // 2]] * 2
        assert (row["for"][0]["content"], row["against"][0]["content"]) == TRAIT.instructions[k % 2]
    for wrong in ((0, 1), (6, 1), (1, 21)):
        with pytest.raises(InputError, match="humour cannot be extracted"):
            trait_prompts(TRAIT, *wrong)


def test_replies_are_those_of_each_conversation(model: Any) -> None:
    found = trait_replies(model, TRAIT, **FEW, max_new_tokens=4, label=None)
    prompts = trait_prompts(TRAIT, 2, 3)
    alone = generate(model, [prompts[3]["against"]], max_new_tokens=4, label=None)
    assert len(found) == 6
    assert found[3]["against"] == alone[0]


def test_states_are_those_of_each_reply_alone(model: Any) -> None:
    found, prompts = trait_states(model, TRAIT, REPLIES, **FEW, label=None), trait_prompts(TRAIT, 2, 3)
    assert found.questions.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.instructions.tolist() == [0, 1] * 3
    one = Example(messages=tuple(prompts[3]["against"]), response=REPLIES[3]["against"])
    for variant, position in READ.items():
        for hook, values in (("stream", found.stream), ("hook_in", found.read)):
            alone = activations(model, [one], hook, position=position, label=None)[0]
            np.testing.assert_allclose(values[variant][1, 3], alone, atol=1e-5 * np.abs(alone).max())
        vectors = found.vectors(model, variant)
        mean = np.mean([a - b for a, b in zip(*found.stream[variant], strict=True)], axis=0)
        np.testing.assert_allclose(vectors.vectors, mean, atol=1e-5)
        assert (vectors.n, vectors.normed_end) == (6, False)
        vectors.check_fits(shape_of(model))


def test_rows_with_an_empty_reply_are_left_out_and_counted(model: Any) -> None:
    holes = [dict(one) for one in REPLIES]
    holes[1]["for"], holes[4]["against"] = " ", ""
    found = trait_states(model, TRAIT, holes, **FEW, label=None)
    assert (found.empty, found.questions.tolist()) == (2, [0, 1, 1, 2])
    whole = trait_states(model, TRAIT, REPLIES, **FEW, label=None)
    kept = whole.differences("response_avg")[[0, 2, 3, 5]]
    np.testing.assert_allclose(found.differences("response_avg"), kept, atol=1e-5 * np.abs(kept).max())
    with pytest.raises(DataError, match="hardly answers"):
        trait_states(model, TRAIT, [{"for": "", "against": ""}] * 6, **FEW, label=None)
    with pytest.raises(InputError, match="one reply a row"):
        trait_states(model, TRAIT, REPLIES[:5], **FEW, label=None)
