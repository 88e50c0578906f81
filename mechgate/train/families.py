"""Families of gates: many trainings that are each done once, kept under a hash of all that decides their result."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mechgate.data.pairs import Example, Pair, data_hash
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import read_header
from mechgate.model.loading import fingerprint, model_info
from mechgate.provenance import check_writable, stable_hash, versions
from mechgate.train.gates import TrainConfig, train_gates

_USUAL = {"granularity": "element", "input": "linear", "rank": None, "layers": None}
_RESULTS = ("torch", "transformers", "transformer-lens", "mechgate")  # packages that decide what training gives


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trained gate set of a family: what it learned, under which seed, and its file."""

    task: str
    seed: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: a name for what is learned, the data (`kept`, `opposite` and `spared` as for `train_gates`), the settings
    with their seed, the gates' `form` (arguments of `GateSet.identity`), and the data's domain (None: all)."""

    task: str
    examples: list[Example]
    config: TrainConfig
    kept: Sequence[Example | str] = ()
    opposite: Sequence[Example] = ()
    spared: Sequence[Pair] = ()
    form: dict[str, Any] = field(default_factory=dict)
    domain: str | None = None


def train_jobs(
    model: Any, folder: str | Path, jobs: Sequence[Job], *, say: Callable[[str], None] = print
) -> list[Member]:
    """Train each job, or find it trained in `folder`; files come back in the order of the jobs.

    Files are named TASK-SEED-HASH.safetensors after all that decides what is in them: data, settings, form, model
    weights, dtype and package versions. An interrupted training goes on from its checkpoint. Raises what `train_gates`
    raises, and `GateFileError` for a file that is damaged.
    """
    folder = Path(folder)
    check_writable(folder / "x.safetensors")
    members = [Member(task=job.task, seed=job.config.seed, path=folder / _name(model, job)) for job in jobs]
    for number, (member, job) in enumerate(zip(members, jobs, strict=True), 1):
        title = f"{number}/{len(jobs)} {member.task}, seed {member.seed}"
        if member.path.is_file():
            read_header(member.path)  # a damaged file is an error here, not at the end of everything
            say(f"{title}: reused {member.path}")
            continue
        say(f"{title} ...")
        gates = GateSet.identity(model, **{"seed": member.seed, **_unusual(job.form)})
        checkpoint = member.path.with_suffix(".checkpoint")
        data: dict[str, Any] = {"kept": job.kept, "opposite": job.opposite, "spared": job.spared}
        train_gates(model, gates, job.examples, job.config, checkpoint=checkpoint, **data)
        gates.history |= {"task": member.task, "domain": job.domain or "all"}
        gates.save(member.path)
        checkpoint.unlink(missing_ok=True)
    return members


def token_counter(model: Any) -> Callable[[str], int]:
    """How many tokens a text has for the model's tokenizer, without special ones."""
    tokenizer = model_info(model).tokenizer
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)


def _name(model: Any, job: Job) -> str:
    decides: list[Any] = [data_hash(job.examples), _chosen(job.config), _unusual(job.form), _place(model)]
    decides += [[name, data_hash(data)] for name, data in (("kept", job.kept), ("opposite", job.opposite)) if data]
    if job.spared:
        answers = [pair.as_example(answer) for pair in job.spared for answer in ("matching", "not_matching")]
        decides += [["spared", data_hash(answers)]]
    return f"{job.task}-{job.config.seed}-{stable_hash(decides)[:12]}.safetensors"


def _unusual(form: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in form.items() if value != _USUAL.get(name)}


def _chosen(config: TrainConfig) -> dict[str, Any]:
    """The settings that are not defaults, so that a setting added later leaves the names of files as they are."""
    usual = asdict(TrainConfig(seed=config.seed))
    return {name: value for name, value in asdict(config).items() if name == "seed" or value != usual[name]}


def _place(model: Any) -> list[Any]:
    dtype = str(next(model.original_model.parameters()).dtype)
    found = versions()
    return [fingerprint(model), dtype, {name: found.get(name) for name in _RESULTS}]
