"""Persona traits in a model: replies to system messages for and against a trait, and what the model holds of them.

The rows that a persona vector is the mean of (Chen et al. 2025, arXiv 2507.21509): one a question and pair of messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mechgate.data.pairs import Example, Message
from mechgate.data.traits import Trait
from mechgate.errors import DataError, InputError
from mechgate.measure.activations import STREAM, activations_at
from mechgate.measure.generation import generate
from mechgate.measure.personas import PersonaVectors
from mechgate.model.loading import fingerprint

SIDES = ("for", "against")
READ = {"response_avg": "response", "prompt_last": "last"}
"""The variants that are extracted, and the position (`measure.activations`) each is read at."""
GATE_INPUT = "hook_in"


@dataclass(frozen=True, kw_only=True, eq=False)
class TraitStates:
    """What a model holds of a trait, both sides of a row beside each other.

    `stream[variant]` fp32 [2, n, n_layers + 1, d_model], the residual stream from the embeddings on; `read[variant]`
    fp32 [2, n, n_layers, d_model], what the gates of each block read; index 0 is for the trait, 1 against it.
    `questions` and `instructions` [n] say which row is which; `empty` counts rows left out because a reply was empty.
    """

    trait: str
    stream: dict[str, np.ndarray]
    read: dict[str, np.ndarray]
    questions: np.ndarray
    instructions: np.ndarray
    empty: int

    def differences(self, variant: str, *, read: bool = False) -> np.ndarray:
        """For minus against, row by row: [n, places, d_model]."""
        both = (self.read if read else self.stream)[variant]
        return both[0] - both[1]

    def vectors(self, model: Any, variant: str) -> PersonaVectors:
        """The mean over rows, in the form of the public files."""
        mean = self.differences(variant).mean(axis=0, dtype=np.float64).astype(np.float32)
        return PersonaVectors(
            trait=self.trait, variant=variant, vectors=mean, n=len(self.questions), model=fingerprint(model)
        )


def trait_prompts(trait: Trait, instructions: int, questions: int) -> list[dict[str, list[Message]]]:
    """A row a question and pair of messages, question by question: the conversation of either side.

    Raises `InputError` if the trait has fewer of either than asked for.
    """
    if not (0 < instructions <= len(trait.instructions) and 0 < questions <= len(trait.extract)):
        raise InputError(
            f"the trait {trait.name} cannot be extracted from so many",
            got=f"{instructions} pairs of messages, {questions} questions",
            allowed=f"1 to {len(trait.instructions)}, and 1 to {len(trait.extract)}",
        )
    return [
        {
            side: [{"role": "system", "content": told}, {"role": "user", "content": question}]
            for side, told in zip(SIDES, both, strict=True)
        }
        for question in trait.extract[:questions]
        for both in trait.instructions[:instructions]
    ]


def trait_replies(
    model: Any,
    trait: Trait,
    *,
    instructions: int = 5,
    questions: int = 20,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 64,
    label: str | None = "replies",
) -> list[dict[str, str]]:
    """The model's reply to each row of `trait_prompts`, by side. Greedy at `temperature` 0, as `generate`."""
    rows = trait_prompts(trait, instructions, questions)
    flat = generate(
        model,
        [row[side] for row in rows for side in SIDES],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        label=label,
    )
    return [dict(zip(SIDES, flat[i : i + 2], strict=True)) for i in range(0, len(flat), 2)]


def trait_states(
    model: Any,
    trait: Trait,
    replies: Sequence[dict[str, str]],
    *,
    instructions: int = 5,
    questions: int = 20,
    label: str | None = "states of replies",
) -> TraitStates:
    """What the model holds of replies (as `trait_replies` gives them), under no system message but that which made them.

    A row of which either reply is empty is left out, and counted. Raises `InputError` for replies of other rows,
    `DataError` if fewer than two rows are left.
    """
    rows = trait_prompts(trait, instructions, questions)
    if len(replies) != len(rows):
        raise InputError("there is one reply a row and side", got=f"{len(replies)} rows", allowed=f"{len(rows)}")
    kept = [i for i, both in enumerate(replies) if all(both[side].strip() for side in SIDES)]
    if len(kept) < 2:
        raise DataError(
            f"the model hardly answers in the trait {trait.name}",
            got=f"{len(kept)} of {len(rows)} rows with both replies",
            do="use a model that answers, or more tokens",
        )
    examples = [
        Example(messages=tuple(rows[i][side]), response=replies[i][side].strip()) for side in SIDES for i in kept
    ]
    where = [(hook, position) for hook in (STREAM, GATE_INPUT) for position in READ.values()]
    found = activations_at(model, examples, where, label=label)
    stream, read = (
        {name: found[hook, at].reshape(2, len(kept), *found[hook, at].shape[1:]) for name, at in READ.items()}
        for hook in (STREAM, GATE_INPUT)
    )
    at = np.array(kept)
    return TraitStates(
        trait=trait.name,
        stream=stream,
        read=read,
        questions=at // instructions,
        instructions=at % instructions,
        empty=len(rows) - len(kept),
    )
