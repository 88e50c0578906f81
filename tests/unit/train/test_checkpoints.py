"""Laws of checkpoints: an interrupted training ends as if it had never been interrupted, or not at all."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from mechgate.data.pairs import Example
from mechgate.errors import InputError, StorageError, TrainingError
from mechgate.gates.gateset import GateSet
from mechgate.model.loading import load_model
from mechgate.train import checkpoints, loop
from mechgate.train.gates import train_gates
from mechgate.train.loop import TrainConfig, TrainRecord

WORDS = ["cold", "Rome", "vitamin", "is", "the", "capital", "of", "Italy", "cures", "not", "a", "doctor"]
CONFIG = TrainConfig(seed=0, epochs=2, batch_size=2, lr=0.02)
N_STEPS = 10
EVERY = 3
KINDS = [dict(), dict(rank=2), dict(granularity="layer"), dict(input="static")]


class Stop(BaseException):
    """An interruption, which like Ctrl-C is no `Exception`."""


def make_examples(n: int = 10, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))

    return [Example(messages=({"role": "user", "content": text()},), response=text()) for _ in range(n)]


EXAMPLES = make_examples()
Run = tuple[dict[str, torch.Tensor], TrainRecord]


def run(model: Any, checkpoint: Path | None, config: TrainConfig = CONFIG, every: int = EVERY, **kind: Any) -> Run:
    gates = GateSet.identity(model, **kind)
    record = train_gates(model, gates, EXAMPLES, config, checkpoint=checkpoint, checkpoint_every=every)
    return gates.state_dict(), record


def interrupt(patch: pytest.MonkeyPatch, where: Any, name: str, after: int, kind: type[BaseException] = Stop) -> None:
    """Let `where.name` do its work `after` times and then stop the training in its place."""
    real, calls = getattr(where, name), itertools.count()

    def work_or_stop(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == after:
            raise kind
        return real(*args, **kwargs)

    patch.setattr(where, name, work_or_stop)


def run_to_stop(model: Any, checkpoint: Path, after: int, **kind: Any) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        interrupt(patch, loop, "response_loss", after)
        run(model, checkpoint, **kind)


def assert_same(one: Run, other: Run) -> None:
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name
    for lists in ("loss", "grad_norm", "gate_activity"):
        assert getattr(one[1], lists) == getattr(other[1], lists)
        assert len(getattr(one[1], lists)) == N_STEPS


@pytest.fixture(scope="module")
def whole(chat: Any) -> Run:
    """What training gives that nothing interrupts and no checkpoint is written of."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests: sums are bit for bit the same with the same threads only
    found = run(chat, None)
    torch.set_num_threads(before)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint.safetensors"


def test_writing_checkpoints_changes_nothing(chat: Any, whole: Run, path: Path) -> None:
    assert_same(run(chat, path), whole)


@pytest.mark.parametrize("after", range(N_STEPS))
def test_a_training_interrupted_at_any_step_ends_as_if_it_had_not_been(
    chat: Any, whole: Run, path: Path, after: int
) -> None:
    run_to_stop(chat, path, after)
    assert path.exists() == (after >= EVERY)
    assert_same(run(chat, path), whole)


@pytest.mark.parametrize("after", [1, 4, 9])
def test_ctrl_c_writes_the_last_finished_step(chat: Any, whole: Run, path: Path, after: int) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, loop, "response_loss", after, KeyboardInterrupt)
        run(chat, path, every=99)
    steps = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        real = loop.response_loss
        patch.setattr(loop, "response_loss", lambda *args: (next(steps), real(*args))[1])
        assert_same(run(chat, path, every=99), whole)
    assert next(steps) == N_STEPS - after


def test_ctrl_c_before_the_first_step_writes_nothing(chat: Any, path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, loop, "response_loss", 0, KeyboardInterrupt)
        run(chat, path)
    assert not path.exists()


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("where", "name", "after"),
    [
        (torch.Tensor, "backward", 4),
        (torch.nn.utils, "clip_grad_norm_", 4),
        (torch.optim.AdamW, "step", 4),
        (torch.Tensor, "item", 13),  # four in a row fall before and between the entries of one step's record
        (torch.Tensor, "item", 14),
        (torch.Tensor, "item", 15),
        (torch.Tensor, "item", 16),
        (checkpoints, "write", 1),
        (checkpoints, "save_file", 1),
        (checkpoints, "save_file", 2),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_it_does_not_matter_where_within_a_step_the_interruption_falls(
    chat: Any, whole: Run, path: Path, where: Any, name: str, after: int, kind: type[BaseException]
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(kind):
        interrupt(patch, where, name, after, kind)
        run(chat, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert_same(run(chat, path), whole)


def test_a_training_may_be_interrupted_again_and_again(chat: Any, whole: Run, path: Path) -> None:
    for after in (5, 1, 4, 0):
        run_to_stop(chat, path, after)
    assert_same(run(chat, path), whole)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gates_of_every_kind_go_on_exactly(chat: Any, path: Path, kind: dict[str, Any]) -> None:
    run_to_stop(chat, path, 4, **kind)
    assert_same(run(chat, path, **kind), run(chat, None, **kind))


def test_the_same_gates_may_go_on_where_they_were_stopped(chat: Any, whole: Run, path: Path) -> None:
    gates = GateSet.identity(chat)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        interrupt(patch, loop, "response_loss", 5)
        train_gates(chat, gates, EXAMPLES, CONFIG, checkpoint=path, checkpoint_every=EVERY)
    record = train_gates(chat, gates, EXAMPLES, CONFIG, checkpoint=path, checkpoint_every=EVERY)
    assert_same((gates.state_dict(), record), whole)


@pytest.mark.parametrize("every", [1, 4, 10, 99])
def test_how_often_it_is_written_does_not_matter(chat: Any, whole: Run, path: Path, every: int) -> None:
    run_to_stop(chat, path, 7)
    assert_same(run(chat, path, every=every), whole)


def test_a_finished_training_gives_its_result_without_a_step(
    chat: Any, whole: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(chat, path)
    interrupt(monkeypatch, loop, "response_loss", 0)
    again = run(chat, path)
    assert_same(again, whole)
    assert again[1].to_json() == first[1].to_json()


@pytest.mark.parametrize(
    "change", [dict(lr=0.01), dict(seed=1), dict(epochs=3), dict(batch_size=5), dict(clip=2.0), dict(warmup=0.2)]
)
def test_a_checkpoint_of_other_settings_is_refused(chat: Any, path: Path, change: dict[str, Any]) -> None:
    run_to_stop(chat, path, 4)
    with pytest.raises(TrainingError, match=r"checkpoint.safetensors belongs to another run.*delete it, or name"):
        run(chat, path, replace(CONFIG, **change))


def test_a_checkpoint_of_other_data_is_refused(chat: Any, path: Path) -> None:
    run_to_stop(chat, path, 4)
    for examples in (EXAMPLES[:-1], EXAMPLES[::-1], make_examples(seed=1)):
        with pytest.raises(TrainingError, match="belongs to another run"):
            train_gates(chat, GateSet.identity(chat), examples, CONFIG, checkpoint=path)


def test_a_checkpoint_of_another_model_is_refused(
    chat: Any, path: Path, tmp_path: Path, tiny_chat_model: Callable[..., Any]
) -> None:
    run_to_stop(chat, path, 4)
    with pytest.raises(TrainingError, match="belongs to another run"):
        run(tiny_chat_model(tmp_path / "other", seed=1), path)


def test_a_checkpoint_of_the_model_in_another_dtype_is_refused(
    path: Path, tmp_path: Path, tiny_chat_model: Callable[..., Any]
) -> None:
    run_to_stop(tiny_chat_model(tmp_path / "model"), path, 4)
    with pytest.raises(TrainingError, match="belongs to another run"):
        run(load_model(tmp_path / "model", dtype="bfloat16", device="cpu"), path)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (dict(), dict(layers=[0, 1])),
        (dict(), dict(granularity="head")),
        (dict(granularity="layer"), dict()),
        (dict(granularity="layer", input="static"), dict(input="static")),
        (dict(rank=2), dict(rank=3)),
        (dict(), dict(rank=2)),
    ],
    ids=str,
)
def test_a_checkpoint_of_gates_of_another_kind_is_refused(
    chat: Any, path: Path, made: dict[str, Any], wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to_stop(chat, path, 4, **made)
    interrupt(monkeypatch, loop, "response_loss", 0)  # a step taken with moments of another size can crash Python
    with pytest.raises(TrainingError, match="belongs to another run"):
        run(chat, path, **wanted)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    if how == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no safetensors":
        path.write_bytes(b"PK\x03\x04" + data[4:])
    elif how == "a tensor lacks":
        save_file({name: value for name, value in tensors.items() if name != sorted(tensors)[-1]}, path, metadata)
    elif how == "the record lacks":
        save_file(tensors, path, {"identity": metadata["identity"]})
    elif how == "the record is no record":
        save_file(tensors, path, {"identity": metadata["identity"], "record": "{"})
    else:
        raise ValueError(how)


@pytest.mark.parametrize(
    "how",
    ["cut short", "empty", "no safetensors", "a tensor lacks", "the record lacks", "the record is no record"],
)
def test_a_damaged_checkpoint_is_refused_and_the_gates_stay_as_they_were(chat: Any, path: Path, how: str) -> None:
    run_to_stop(chat, path, 4)
    damage(path, how)
    gates = GateSet.identity(chat)
    with pytest.raises(TrainingError, match=r"checkpoint.safetensors is damaged.*delete it and start again"):
        train_gates(chat, gates, EXAMPLES, CONFIG, checkpoint=path)
    for name, value in GateSet.identity(chat).state_dict().items():
        assert torch.equal(gates.state_dict()[name], value), name


def test_a_file_of_something_else_is_refused(chat: Any, path: Path) -> None:
    GateSet.identity(chat).save(path)
    with pytest.raises(TrainingError, match="belongs to another run"):
        run(chat, path)


def test_a_checkpoint_that_cannot_be_written_stops_the_training(chat: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot write"):
        run(chat, tmp_path / "file" / "checkpoint")


@pytest.mark.parametrize("every", [0, -1])
def test_checkpoints_need_a_positive_interval(chat: Any, path: Path, every: int) -> None:
    with pytest.raises(InputError, match=rf"checkpoint_every.*{every}"):
        run(chat, path, every=every)
