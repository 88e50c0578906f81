"""Gates that learn nothing new: they imitate the model's own replies to neutral questions.

A control for training as such, of no domain and no behaviour: as many examples, response tokens and steps as
sycophancy's gates have under the same seed, on text that the model would have said anyway.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mechgate.data.controls import FRAMES
from mechgate.data.pairs import Example
from mechgate.data.sets import asked, small_talk, split_chat
from mechgate.errors import DataError, InputError
from mechgate.measure.generation import generate
from mechgate.model.loading import fingerprint
from mechgate.provenance import stable_hash, write_json
from mechgate.seeding import rng
from mechgate.train.controls import LEARNED, drawn_examples, equal_steps
from mechgate.train.families import Job, Member, token_counter, train_jobs
from mechgate.train.loop import TrainConfig

TASK = "own-chat"
LONGEST = 40
_SHARE = 0.8
_ENDS = (".", "!", "?")


def train_own_chat(
    model: Any,
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    domain: str | None = "medical",
    n: int = 180,
    epochs: int = 2,
    batch_size: int = 8,
    lr: float = 1e-3,
    say: Callable[[str], None] = print,
) -> list[Member]:
    """Train, or find trained in `folder`, gates on the model's own replies, under every seed.

    A seed draws four fifths of the questions. `domain`, `n` and `batch_size` are those of the sycophancy gates whose
    tokens and steps are matched. The replies are made once and kept in `folder`. Raises what `own_replies` and
    `train_gates` raise, and `InputError` where tokens cannot be matched.
    """
    replies = own_replies(model, folder, say=say)
    asks = list(dict.fromkeys(e.messages[-1]["content"] for e in replies))
    count = token_counter(model)
    jobs = []
    for seed in seeds:
        kept = set(rng(seed, "drawn", TASK).choice(asks, size=round(_SHARE * len(asks)), replace=False).tolist())
        pool = [e for e in replies if e.messages[-1]["content"] in kept]
        reference, _ = drawn_examples(LEARNED, domain=domain, seed=seed, count=count, n=n)
        examples, size = equal_steps(TASK, pool, reference, count=count, n=n, batch_size=batch_size)
        config = TrainConfig(seed=seed, epochs=epochs, batch_size=size, lr=lr)
        jobs.append(Job(task=TASK, examples=examples, config=config))
    return train_jobs(model, folder, jobs, say=say)


def own_replies(model: Any, folder: str | Path, *, say: Callable[[str], None] = print) -> list[Example]:
    """The model's greedy replies (no gates) to the neutral questions of training, each up to where its last sentence
    ends within `LONGEST` tokens; those that end no sentence there are left out, and their number is said.

    Kept in `folder` under a hash of model, dtype and questions. Raises `DataError` for a damaged file and `InputError`
    if fewer than two replies are left.
    """
    questions = [frame.format(e.question) for frame in FRAMES for e in [*split_chat("train"), *small_talk()]]
    made_from = [fingerprint(model), str(next(model.original_model.parameters()).dtype), questions, LONGEST]
    path = Path(folder) / f"{TASK}-replies-{stable_hash(made_from)[:12]}.json"
    if path.is_file():
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if len(said) != len(questions) or not all(isinstance(reply, str) for reply in said):
                raise ValueError(f"{len(said)} replies to {len(questions)} questions")
        except (ValueError, TypeError, UnicodeDecodeError) as error:
            raise DataError(f"the kept replies {path} are damaged", got=str(error), do="delete the file") from error
    else:
        said = generate(model, [asked(question) for question in questions], max_new_tokens=LONGEST, batch_size=32)
        write_json(path, said)
    whole = [reply[: 1 + max(reply.rfind(end) for end in _ENDS)].strip() for reply in said]
    found = [Example(messages=asked(q), response=r) for q, r in zip(questions, whole, strict=True) if r]
    if len(found) < len(questions):
        say(f"own replies: {len(questions) - len(found)} of {len(questions)} end no sentence and are left out")
    if len(found) < 2:
        raise InputError("the model's own replies end no sentences", got=f"{len(found)} of {len(questions)}")
    return found
