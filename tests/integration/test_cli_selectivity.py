"""Laws of `mechgate selectivity`: what it passes on, and that bad input is one paragraph before anything is measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from mechgate.gates.gateset import GateSet
from mechgate.model.loading import load_model
from mechgate.questions import selectivity as questions
from mechgate.referee import SelectivityReport
from mechgate.stats.selectivity import Verdict

Run = Any  # the fixture `mechgate`


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A folder of gate files: judged ones, a folder of controls, and ones that say nothing of their task."""
    w = tmp_path_factory.mktemp("world")
    model = load_model(model_folder, dtype="float32")
    gates = GateSet.identity(model)
    gates.save(w / "judged.safetensors")
    gates.save(w / "unnamed.safetensors")
    for folder, task, seeds in (
        ("controls", "sycophancy", (0, 1)),
        ("controls", "bad-advice", (0, 1)),
        ("controls", "sign-off", (0,)),
        ("only", "sycophancy", (0,)),
    ):
        gates.history = {"task": task}
        (w / folder).mkdir(exist_ok=True)
        for seed in seeds:
            gates.save(w / folder / f"{task}-{seed}.safetensors")
    (w / "empty").mkdir()
    for place in ("a", "b"):
        (w / place / "host").mkdir(parents=True)
    return w


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `judged` was called with, which measures nothing."""
    calls: list[tuple[Any, ...]] = []

    def stub(model: Any, gates: Any, *, hosts: Any, controls: Any, **options: Any) -> SelectivityReport:
        calls.append((model, gates, hosts, controls, options))
        verdict = Verdict(outcome="inconclusive", reasons=(), would_change=())
        return SelectivityReport(verdicts={"base": verdict}, numbers={"answer": 42}, hashes={})

    monkeypatch.setattr(questions, "judged", stub)
    return calls


def test_help_names_every_option(mechgate: Run) -> None:
    done = mechgate("selectivity", "--help")
    assert done.code == 0
    for option in ("--control", "--host", "--quick", "--folder", "--strength", "--facts", "--phrasings", "--json"):
        assert option in done.out


def judge(world: Path, model_folder: Path, *options: Any, gates: str = "judged.safetensors") -> list[Any]:
    named = [world / o.removeprefix("@") if isinstance(o, str) and o.startswith("@") else o for o in options]
    return ["selectivity", world / gates, "--model", model_folder, "--dtype", "float32", *named]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["@nowhere.safetensors"], "nowhere.safetensors"),
        (["--control", "@nowhere.safetensors"], "nowhere.safetensors"),
        (["--control", "@empty"], "no control gates"),
        (["--control", "@only"], "no control gates"),
        (["--control", "@unnamed.safetensors"], "what it was trained on"),
        (["--control", "@controls", "--control", "@controls/sign-off-0.safetensors"], "different names"),
        (["--host", "@nowhere"], "nowhere"),
        (["--host", "@a/host", "--host", "@b/host"], "hosts need different names"),
        (["--strength", "0"], "strength"),
        (["--strength", "nan"], "strength"),
        (["--facts", "2"], "facts"),
        (["--facts", "100000"], "fewer facts"),
        (["--phrasings", "0"], "phrasings"),
        (["--phrasings", "1000"], "1000"),
    ],
)
def test_a_bad_command_is_one_paragraph_and_writes_nothing(
    mechgate: Run, world: Path, model_folder: Path, tmp_path: Path, options: list[Any], says: str
) -> None:
    folder = tmp_path / "run"
    done = mechgate(*judge(world, model_folder, *options, "--folder", folder, "--quiet"))
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1
    assert says in done.err
    assert not list(tmp_path.rglob("*.csv"))


def test_a_folder_stands_for_its_controls_and_says_what_it_leaves_out(
    mechgate: Run, world: Path, model_folder: Path, tmp_path: Path, called: list[tuple[Any, ...]]
) -> None:
    done = mechgate(*judge(world, model_folder, "--control", "@controls", "--json", "--folder", tmp_path))
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"answer": 42}
    (_, gates, hosts, controls, options) = called[0]
    assert gates == [world / "judged.safetensors"]
    assert hosts == {}
    assert {task: [path.stem for path in paths] for task, paths in controls.items()} == {
        "bad-advice": ["bad-advice-0", "bad-advice-1"],
        "sign-off": ["sign-off-0"],
    }
    assert options["place"].tables == tmp_path


def test_other_seeds_of_the_judged_task_are_no_controls_whatever_the_task(
    mechgate: Run, world: Path, model_folder: Path, tmp_path: Path, called: list[tuple[Any, ...]]
) -> None:
    mechgate(
        *judge(world, model_folder, "-c", "@controls", "--json", gates="controls/bad-advice-0.safetensors"),
        *("--folder", tmp_path),
    )
    assert set(called[0][3]) == {"sycophancy", "sign-off"}


@pytest.mark.parametrize("quick", [False, True])
def test_options_become_settings(
    mechgate: Run,
    world: Path,
    model_folder: Path,
    tmp_path: Path,
    called: list[tuple[Any, ...]],
    quick: bool,
) -> None:
    options = ["--facts", 10, "--phrasings", 2, "-s", 0.5, "--seed", 4, *(["--quick"] if quick else [])]
    mechgate(*judge(world, model_folder, *options, "--json", "--folder", tmp_path))
    chosen = called[0][4]["settings"]
    assert (chosen.facts, chosen.dose_facts, chosen.phrasings, chosen.strength, chosen.seed) == (10, 10, 2, 0.5, 4)
    assert (chosen.exact_families == ("row-sign",)) is quick


def test_several_gates_are_seeds_of_one_recipe(
    mechgate: Run, world: Path, model_folder: Path, tmp_path: Path, called: list[tuple[Any, ...]]
) -> None:
    mechgate(*judge(world, model_folder, "@controls/sycophancy-0.safetensors", "--json", "--folder", tmp_path))
    assert [path.stem for path in called[0][1]] == ["judged", "sycophancy-0"]
