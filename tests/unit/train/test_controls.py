"""Laws of families of gates: all members learn alike in amount, seeds draw anew, and nothing is trained twice."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mechgate.data.claims import ASSERTED, UNASKED
from mechgate.data.controls import SIGN_OFF
from mechgate.data.pairs import Example
from mechgate.data.tasks import load_pairs
from mechgate.errors import GateFileError, InputError
from mechgate.gates.storage import load_gates, read_header
from mechgate.model.loading import load_tokenizer
from mechgate.train.controls import CONTROL_TASKS, LEARNED, TRAINABLE, controls_by_task, drawn_examples, train_family
from mechgate.train.variants import train_variants

SEEDS = (0, 1, 2)
FEW: dict[str, Any] = dict(n=24, epochs=1, say=lambda text: None)


@pytest.fixture(scope="module")
def count() -> Callable[[str], int]:
    tokenizer = load_tokenizer("smollm2-135m")
    return lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.fixture(scope="module")
def drawn(count: Callable[[str], int]) -> dict[tuple[str, int], tuple[list[Example], int]]:
    return {
        (task, seed): drawn_examples(task, domain="medical", seed=seed, count=count)
        for task in TRAINABLE
        for seed in SEEDS
    }


@pytest.mark.parametrize("task", TRAINABLE)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_task_has_sycophancys_tokens_and_steps(drawn: Any, count: Any, task: str, seed: int) -> None:
    (examples, size), (reference, full) = drawn[task, seed], drawn[LEARNED, seed]
    total, aim = (sum(count(e.response) for e in found) for found in (examples, reference))
    assert abs(total - aim) <= 0.02 * aim
    assert -(-len(examples) // size) == -(-len(reference) // full)
    assert len(reference) == 180


@pytest.mark.parametrize("task", TRAINABLE)
def test_no_example_is_learned_more_than_twice_an_epoch(drawn: Any, task: str) -> None:
    for seed in SEEDS:
        times = Counter((str(e.messages), e.response) for e in drawn[task, seed][0])
        assert max(times.values()) <= (1 if task == LEARNED else 2)


@pytest.mark.parametrize("task", TRAINABLE)
def test_examples_are_of_the_tasks_training_split(drawn: Any, task: str) -> None:
    domain = "medical" if task in (*ASSERTED, *UNASKED) else None
    known = {(str(p.messages), p.matching) for p in load_pairs(task, domain, "train")}
    for seed in SEEDS:
        assert {(str(e.messages), e.response) for e in drawn[task, seed][0]} <= known


@pytest.mark.parametrize("task", TRAINABLE)
def test_seeds_draw_different_examples_and_the_same_seed_the_same(drawn: Any, count: Any, task: str) -> None:
    for one, other in itertools.combinations(SEEDS, 2):
        sets = [{(str(e.messages), e.response) for e in drawn[task, seed][0]} for seed in (one, other)]
        assert 0 < len(sets[0] & sets[1]) < min(map(len, sets))
    assert drawn_examples(task, domain="medical", seed=1, count=count) == drawn[task, 1]


def test_tasks_on_facts_share_a_seeds_facts_which_are_four_fifths(drawn: Any) -> None:
    facts = {
        (task, str(p.messages)): p.fact_id
        for task in (LEARNED, "shuffled", "bad-advice", "genuine-agreement")
        for p in load_pairs(task, split="train")
    }
    for seed in SEEDS:
        own = {facts[LEARNED, str(e.messages)] for e in drawn[LEARNED, seed][0]}
        assert len(own) == 24
        for task in ("shuffled", "bad-advice", "genuine-agreement"):
            assert {facts[task, str(e.messages)] for e in drawn[task, seed][0]} <= own


def test_a_facts_wordings_are_as_many_as_anothers(drawn: Any) -> None:
    facts = {str(p.messages): p.fact_id for p in load_pairs(LEARNED, "medical", "train")}
    for seed in SEEDS:
        times = Counter(facts[str(e.messages)] for e in drawn[LEARNED, seed][0])
        assert set(times.values()) == {7, 8}


def test_the_sign_off_control_signs_off(drawn: Any) -> None:
    assert all(e.response.endswith(SIGN_OFF) for e in drawn["sign-off", 0][0])


def test_what_cannot_be_drawn_is_one_error(count: Any) -> None:
    with pytest.raises(InputError, match="task"):
        drawn_examples("broad", domain=None, seed=0, count=count)
    with pytest.raises(InputError, match="domain"):
        drawn_examples(LEARNED, domain="cooking", seed=0, count=count)
    with pytest.raises(InputError, match=r"fewer examples than that.*at most 336 of 24"):
        drawn_examples(LEARNED, domain="medical", seed=0, count=count, n=337)


def test_a_family_is_trained_once(chat: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = dict(tasks=(LEARNED, "genuine-agreement"), seeds=(0, 1), **FEW)
    first = train_family(chat, tmp_path, **asked)
    assert [(m.seed, m.task) for m in first] == [(s, t) for s in (0, 1) for t in asked["tasks"]]
    written = {m.path: m.path.stat().st_mtime_ns for m in first}
    assert set(written) == set(tmp_path.iterdir())
    said: list[str] = []
    again = train_family(chat, tmp_path, **{**asked, "say": said.append}, form={"granularity": "element"})
    assert again == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == written
    assert all("reused" in line for line in said)
    for member in first:
        history = read_header(member.path)["history"]
        assert (history["task"], history["config"]["seed"]) == (member.task, member.seed)
        assert load_gates(member.path, chat).gate(0).bias.abs().max() > 0


@pytest.mark.parametrize(
    "other", [{"epochs": 2}, {"lr": 2e-3}, {"n": 25}, {"domain": None}, {"form": {"granularity": "head"}}]
)
def test_whatever_changes_what_is_learned_changes_the_file(chat: Any, tmp_path: Path, other: dict[str, Any]) -> None:
    asked: dict[str, Any] = dict(tasks=(LEARNED,), seeds=(0,), **FEW)
    (one,), (two,) = train_family(chat, tmp_path, **asked), train_family(chat, tmp_path, **{**asked, **other})
    assert one.path != two.path
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_an_error_and_stays(chat: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = dict(tasks=(LEARNED,), seeds=(0,), **FEW)
    (member,) = train_family(chat, tmp_path, **asked)
    member.path.write_bytes(b"damaged")
    with pytest.raises(GateFileError, match="damaged"):
        train_family(chat, tmp_path, **asked)
    assert member.path.read_bytes() == b"damaged"


def test_the_default_controls_are_six_and_none_is_the_behaviour_itself() -> None:
    assert len(set(CONTROL_TASKS)) == 6
    assert LEARNED not in CONTROL_TASKS


def test_of_a_folder_judged_gates_their_other_seeds_and_variants_are_no_controls(chat: Any, tmp_path: Path) -> None:
    members = train_family(chat, tmp_path, tasks=(LEARNED, "genuine-agreement"), seeds=(0, 1), **FEW)
    train_variants(chat, tmp_path, names=["static", "late"], seeds=[0], **FEW)
    said: list[str] = []
    found = controls_by_task([tmp_path], [members[0].path], said.append)
    assert found == {"genuine-agreement": [m.path for m in members if m.task == "genuine-agreement"]}
    assert said == [f"{tmp_path}: 4 of 6 files are no controls (judged gates, other sycophancy seeds, variants)"]
    late = next(tmp_path.glob("variant-late-*"))
    assert controls_by_task([late], [members[0].path])["variant-late"] == [late]  # a file that is named is wanted
    with pytest.raises(InputError, match="no control gates"):
        controls_by_task([make_folder(tmp_path / "own", [m.path for m in members if m.task == LEARNED])], [])


def make_folder(folder: Path, files: list[Path]) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
