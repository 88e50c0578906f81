"""Families of gates for selectivity: the behaviour under study and what it could be mistaken for, trained alike.

Every member has as many examples, response tokens (within 2%) and steps as sycophancy has under the same seed. A seed
draws facts, wordings and order anew: under the same facts, gates that differed in order alone had a cosine of
.88 in the pilot, so that their spread would say little about what another sample of facts gives.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mechgate.data.claims import ASSERTED, UNASKED
from mechgate.data.facts import domains
from mechgate.data.pairs import Example, Pair
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError, check_choice
from mechgate.gates.storage import read_header
from mechgate.seeding import rng
from mechgate.train.families import Job, Member, token_counter, train_jobs
from mechgate.train.loop import TrainConfig
from mechgate.train.matching import matched_examples

LEARNED = "sycophancy"
VARIANT = "variant-"
"""Begins the task of gates that learned the same by another objective or in another form: these are no controls."""
CONTROL_TASKS = ("sign-off", "unit-conversion", "genuine-agreement", "correct-advice", "bad-advice", "shuffled")
TRAINABLE = (LEARNED, *CONTROL_TASKS, "all-caps")
_REPEATS = 2  # times that a control's example may be learned an epoch
_SHARE = 0.8  # of the training facts or items, that a seed draws


def drawn_examples(
    task: str, *, domain: str | None, seed: int, count: Callable[[str], int], n: int = 180, batch_size: int = 8
) -> tuple[list[Example], int]:
    """The training examples of `task` that `seed` draws, and the batch size that gives as many steps as sycophancy's.

    Four fifths of the training facts (of `domain`; None is all), or of a control's items, are drawn. The tasks on
    facts share them. Each of sycophancy's facts gets equally many wordings (or one more), drawn too, `n` examples in
    all; of the other tasks, `matched_examples` selects as many response tokens among the drawn facts' or items'
    wordings. Where answers are so long that the same few short ones would be repeated (advice), fewer examples a step
    are taken: as many steps and tokens as before. `count` gives a text's tokens.

    Raises `InputError` for an unknown task or domain, for more examples than the drawn facts have wordings, and where
    token counts cannot be matched.
    """
    check_choice("task", task, TRAINABLE)
    if domain is not None:
        check_choice("domain", domain, domains())
    reference = [pair.as_example("matching") for pair in drawn_wordings(drawn_pairs(LEARNED, domain, seed), seed, n)]
    if task == LEARNED:
        return reference, batch_size
    pool = [pair.as_example("matching") for pair in drawn_pairs(task, domain, seed)]
    return equal_steps(task, pool, reference, count=count, n=n, batch_size=batch_size)


def equal_steps(
    task: str,
    pool: Sequence[Example],
    reference: Sequence[Example],
    *,
    count: Callable[[str], int],
    n: int,
    batch_size: int,
) -> tuple[list[Example], int]:
    """Examples of `pool` with as many response tokens as `reference` has, and the batch size that gives them as many
    steps as `n` examples in batches of `batch_size` take. Raises `InputError`, naming `task`, as `drawn_examples` does."""
    found: list[Example] = []
    for size in range(batch_size, 0, -1):
        found = matched_examples(pool, reference, count, n=round(n * size / batch_size))
        if _repeats(found) <= _REPEATS:
            return found, size
    raise InputError(
        "the control would learn the same few examples again and again",
        got=f"{task}: one of them {_repeats(found)} times",
        allowed=f"at most {_REPEATS} times",
        do="take all domains, or fewer examples",
    )


def train_family(
    model: Any,
    folder: str | Path,
    *,
    tasks: Sequence[str] = CONTROL_TASKS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    domain: str | None = "medical",
    n: int = 180,
    epochs: int = 2,
    batch_size: int = 8,
    lr: float = 1e-3,
    form: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> list[Member]:
    """Train, or find trained in `folder`, the gates of every task under every seed; seed by seed.

    Files are named TASK-SEED-HASH.safetensors after all that decides what is in them: examples, settings, `form`
    (arguments of `GateSet.identity`: granularity, rank, input, layers), model weights, dtype and package versions. An
    interrupted training goes on from its checkpoint. Files come back seed by seed, tasks in order. Raises what `drawn_examples` and `train_gates` raise.
    """
    count = token_counter(model)
    jobs = []
    for seed in seeds:
        for task in tasks:
            examples, size = drawn_examples(task, domain=domain, seed=seed, n=n, batch_size=batch_size, count=count)
            config = TrainConfig(seed=seed, epochs=epochs, batch_size=size, lr=lr)
            jobs.append(Job(task=task, examples=examples, config=config, form=form or {}, domain=domain))
    return train_jobs(model, folder, jobs, say=say)


def controls_by_task(
    paths: Sequence[Path], gates: Sequence[Path], say: Callable[[str], None] = print
) -> dict[str, list[Path]]:
    """Control gate files by the task in their headers; a folder stands for its gate files.

    In a folder, the judged gates themselves, other seeds of their task (that of `controls train`'s learned gates, if
    their files do not say) and variants of it are left out, and that is said. Raises `InputError` for a folder without controls and for
    a file that does not say what it was trained on.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    judged = {path.resolve() for path in gates}
    headers = [read_header(path)["history"] for path in gates if path.suffix == ".safetensors"]
    own = {history["task"] for history in headers if history.get("task")} or {LEARNED}
    for path in paths:
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        left = []
        for file in files:
            task = read_header(file)["history"].get("task")
            if path.is_dir() and (file.resolve() in judged or task in own or str(task).startswith(VARIANT)):
                left.append(file.name)
            elif task is None:
                raise InputError(
                    "a control does not say what it was trained on",
                    got=str(file),
                    do="train controls with mechgate controls train",
                )
            else:
                found[task].append(file)
        if left:
            say(
                f"{path}: {len(left)} of {len(files)} files are no controls (judged gates, other {', '.join(sorted(own))} seeds, variants)"
            )
        if len(left) == len(files):
            raise InputError("there are no control gates", got=str(path), do="name files of mechgate controls train")
    return dict(found)


def _repeats(examples: list[Example]) -> int:
    return max(Counter((str(e.messages), e.response) for e in examples).values())


def drawn_pairs(task: str, domain: str | None, seed: int) -> list[Pair]:
    """A task's training pairs, of the facts or items that the seed draws."""
    if task in (*ASSERTED, *UNASKED):
        pairs, stream = load_pairs(task, domain, "train"), "facts"
    else:
        pairs = load_pairs(task, split="train")
        on_facts = pairs[0].domain in domains()  # shuffled: sycophancy's own prompts
        pairs = [pair for pair in pairs if not on_facts or domain in (None, pair.domain)]
        stream = "facts" if on_facts else task
    names = sorted({pair.fact_id for pair in pairs})
    kept = set(rng(seed, "drawn", stream).choice(names, size=round(_SHARE * len(names)), replace=False))
    return [pair for pair in pairs if pair.fact_id in kept]


def drawn_wordings(pairs: list[Pair], seed: int, n: int) -> list[Pair]:
    """`n` of the pairs, as evenly over facts as they go, each fact's wordings drawn on their own."""
    stream = rng(seed, "drawn", "wordings")
    by_fact: dict[str, list[Pair]] = {}
    for i in stream.permutation(len(pairs)):
        by_fact.setdefault(pairs[i].fact_id, []).append(pairs[i])
    if n > len(pairs):
        raise InputError(
            "there are fewer examples than that",
            got=n,
            allowed=f"at most {len(pairs)} of {len(by_fact)} drawn facts",
            do="ask for fewer, or take all domains",
        )
    rounds = [found[k] for k in range(max(map(len, by_fact.values()))) for found in by_fact.values() if k < len(found)]
    return rounds[:n]
