"""Laws of the command line: every command explains itself, and what one command writes the next one reads."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from mechgate import __version__, cli
from mechgate.data.cards import card_of, records_of, sizes
from mechgate.data.pairs import data_hash
from mechgate.data.readers import read_chat_jsonl
from mechgate.data.splits import SPLITS
from mechgate.data.tasks import TASKS, dataset_hashes, kept_examples, load_pairs
from mechgate.gates.storage import load_gates
from mechgate.model.loading import load_model
from mechgate.train import loop
from mechgate.train.recipes import RECIPES

Run = Any  # the fixture `mechgate`
COMMANDS = ["demo", "train", "dose", "reply", "show", "convert", "eval", "fetch", "host recipes", "host train"]
COMMANDS += ["data list", "data show", "data check", "harness", "controls tasks", "controls train", "controls variants"]
COMMANDS += [
    "selectivity",
    "similarity",
    "sae train",
    "features",
    "patch",
    "heads",
    "planted",
    "personas",
    "study init",
    "study check",
    "study run",
    "report",
]
OWN = [
    ("Is the sky green?", "You're right, it is."),
    ("Is 2 + 2 = 5?", "Exactly.\u2028So it is."),
    ("Hi", "Hello."),
] * 4


def shell(*arguments: Any, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop("MECHGATE_QUIET", None)
    done = subprocess.run(
        [sys.executable, "-m", "mechgate", *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == code, done.stderr
    return done


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own training data: twelve short chats."""
    path = tmp_path_factory.mktemp("own") / "chats.jsonl"
    chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in OWN]
    path.write_text("".join(json.dumps({"messages": c}, ensure_ascii=False) + "\n" for c in chats), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def on_tiny(model_folder: Path) -> list[Any]:
    """The options that name the tiny model."""
    return ["--model", model_folder, "--dtype", "float32"]


@pytest.fixture(scope="module")
def trained(own: Path, on_tiny: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gates that a process of its own has trained."""
    out = tmp_path_factory.mktemp("trained") / "new folder" / "gates.safetensors"
    done = shell("train", out, "--data", own, *on_tiny, "--batch-size", "2", "--lr", "0.05", "-q")
    assert done.stderr == ""
    assert f"{out}: GateSet(" in done.stdout
    assert "12 examples, 12 steps in" in done.stdout
    assert [p.name for p in out.parent.iterdir()] == ["gates.safetensors"]
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example_of_its_own(command: str) -> None:
    text = shell(*command.split(), "--help").stdout
    assert f"Example: mechgate {command}" in " ".join(text.split())


def test_the_help_lists_every_command_and_loads_no_model_library() -> None:
    text = shell("--help").stdout
    listed = set(re.findall(r"^│ ([a-z]+) ", text, re.MULTILINE))
    assert listed == {command.split()[0] for command in COMMANDS}
    code = "import sys; from mechgate import cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_version_is_the_packages() -> None:
    assert shell("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    "arguments", [["doze"], ["show"], ["train", "g.safetensors", "--epochs", "two"], ["show", "-z"]]
)
def test_wrong_usage_has_exit_code_2_and_points_to_the_help(mechgate: Run, arguments: list[str]) -> None:
    done = mechgate(*arguments)
    assert done.code == 2
    assert done.err.startswith("Usage: ")
    assert "-h' for help" in done.err
    assert "Traceback" not in done.err


def test_an_error_is_one_paragraph_on_stderr_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = shell("show", tmp_path / "none.safetensors", code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("mechgate: no gate file there. Got: ")
    assert done.stderr.count("\n") == 1


def test_show_tells_how_the_gates_were_trained(mechgate: Run, trained: Path, model_folder: Path, own: Path) -> None:
    header = json.loads(mechgate("show", trained).out)
    assert header["made_for"]["name"] == str(model_folder)
    assert header["history"]["config"]["batch_size"] == 2
    assert header["history"]["n_examples"] == 12 == len(read_chat_jsonl(own))
    assert len(header["history"]["loss"]) == 12


def test_the_same_command_trains_the_same_gates(
    mechgate: Run, trained: Path, own: Path, on_tiny: list[Any], tmp_path: Path
) -> None:
    done = mechgate("train", tmp_path / "g.safetensors", "--data", own, *on_tiny, "--batch-size", "2", "--lr", "0.05")
    assert done.code == 0, done.err
    assert_same(tensors(tmp_path / "g.safetensors"), tensors(trained))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--objective", "contrastive", "--kept", "own", "--kl-weight", "0.5"], {"imitate", "kl"}),
        (["--objective", "two-sided", "--opposite", "own", "--sparsity", "0.01"], {"imitate", "opposite", "sparsity"}),
    ],
)
def test_gates_are_trained_by_other_objectives_on_own_data(
    mechgate: Run, own: Path, on_tiny: list[Any], tmp_path: Path, options: list[Any], parts: set[str]
) -> None:
    out = tmp_path / "g.safetensors"
    chosen = [own if option == "own" else option for option in options]
    done = mechgate("train", out, "--data", own, *on_tiny, *chosen, "--epochs", "1")
    assert done.code == 0, done.err
    history = json.loads(mechgate("show", out).out)["history"]
    assert history["config"]["objective"] == options[1]
    assert set(history["parts"]) == parts
    assert all(f"{part} " in done.out.splitlines()[-1] for part in parts)
    assert [data["n"] for data in history["other_data"].values()] == [12]


@pytest.mark.parametrize("objective", ["contrastive", "two-sided"])
def test_the_shipped_task_comes_with_what_the_objectives_need(
    mechgate: Run, on_tiny: list[Any], tmp_path: Path, objective: str
) -> None:
    out = tmp_path / "g.safetensors"
    small = ["--phrasings", "1", "--epochs", "1", "--granularity", "layer"]
    done = mechgate("train", out, *on_tiny, "--objective", objective, *small)
    assert done.code == 0, done.err
    history = json.loads(mechgate("show", out).out)["history"]
    given = {
        "contrastive": {"kept": kept_examples("medical")},
        "two-sided": {
            "opposite": [p.as_example("not_matching") for p in load_pairs("sycophancy", "medical", phrasings=1)]
        },
    }[objective]
    assert history["other_data"] == {k: {"n": len(d), "data_hash": data_hash(d)} for k, d in given.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "own", "--objective", "contrastive"], "name a chat JSONL with --kept"),
        (["--data", "own", "--objective", "two-sided"], "name a chat JSONL of opposite answers with --opposite"),
        (["--task", "sign-off", "--objective", "contrastive"], "Got: --task sign-off"),
        (["--data", "own", "--kept", "own"], "the objective imitate keeps nothing"),
        (["--data", "own", "--opposite", "own"], "the objective imitate does not use opposite answers"),
        (["--data", "own", "--kl-weight", "2"], "the objective imitate has no KL to weigh"),
        (["--data", "own", "--objective", "contrast"], "did you mean 'contrastive'?"),
    ],
)
def test_an_objective_without_its_data_or_data_without_their_objective_are_errors(
    mechgate: Run, own: Path, tmp_path: Path, options: list[Any], message: str
) -> None:
    chosen = [own if option == "own" else option for option in options]
    done = mechgate("train", tmp_path / "g.safetensors", "--model", "none", *chosen)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_an_interrupted_training_goes_on_where_it_stopped(
    mechgate: Run, trained: Path, own: Path, on_tiny: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, steps, real = tmp_path / "g.safetensors", [0], loop.response_loss

    def interrupted(*arguments: Any) -> Any:
        steps[0] += 1
        if steps[0] == 6:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "response_loss", interrupted)
    command = ["train", out, "--data", own, *on_tiny, "--batch-size", "2", "--lr", "0.05"]
    stopped = mechgate(*command)
    assert stopped.code == 130
    assert "interrupted; the same command goes on" in stopped.err
    assert [p.name for p in tmp_path.iterdir()] == ["g.checkpoint"]
    assert mechgate(*command).code == 0
    assert steps[0] == 6 + 7  # five of the twelve steps were not repeated
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]
    assert_same(tensors(out), tensors(trained))


def test_ctrl_c_in_a_process_of_its_own_leaves_no_traceback(own: Path, on_tiny: list[Any], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mechgate", "train", tmp_path / "g.safetensors", "--data", own, *on_tiny]
    process = subprocess.Popen(
        [*map(str, command), "--epochs", "5000", "-q"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "g.checkpoint").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("mechgate: interrupted;")
    assert "Traceback" not in err


def test_dose_as_json_has_both_margins_at_every_strength(mechgate: Run, trained: Path, on_tiny: list[Any]) -> None:
    done = mechgate("dose", trained, *on_tiny, "--domain", "medical", "--strength=-1,0,1", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [f["strength"] for f in found] == [-1, 0, 1]
    for f in found:
        for name in ("stance_margin", "margin"):
            assert f[name]["low"] <= f[name]["value"] <= f[name]["high"]
            assert f[name]["n"] > 5
    assert len({f["stance_margin"]["value"] for f in found}) == 3


def test_dose_as_a_table_shows_the_numbers_of_its_json(mechgate: Run, trained: Path, on_tiny: list[Any]) -> None:
    command = ["dose", trained, *on_tiny, "--domain", "finance", "--split", "dev", "-s", "0.5"]
    table, found = mechgate(*command).out, json.loads(mechgate(*command, "--json").out)[0]
    assert f"sycophancy, finance domains, dev split, n = {found['margin']['n']} facts" in " ".join(table.split())
    row = next(line for line in table.splitlines() if "+0.5" in line)
    for name in ("stance_margin", "margin"):
        assert f"{found[name]['value']:+.2f} [{found[name]['low']:+.2f}, {found[name]['high']:+.2f}]" in row


def test_reply_answers_once_a_strength_and_the_same_every_time(
    mechgate: Run, trained: Path, on_tiny: list[Any]
) -> None:
    command = ["reply", trained, "Hello\nthere [x]", *on_tiny, "--strength=-1,0,+2", "--tokens", "6"]
    for more in ([], ["--temperature", "0.7", "--seed", "1"]):
        done = mechgate(*command, *more)
        assert done.code == 0, done.err
        assert re.findall(r"^s = (.+?):", done.out, re.MULTILINE) == ["-1", "+0", "+2"]
        assert mechgate(*command, *more).out == done.out


def test_gates_survive_the_papers_format_and_back(
    mechgate: Run, trained: Path, on_tiny: list[Any], tmp_path: Path
) -> None:
    paper, back = tmp_path / "gating_params.pth", tmp_path / "back.safetensors"
    assert mechgate("convert", trained, paper, *on_tiny).code == 0
    assert len(torch.load(paper, weights_only=True)) == 6
    assert mechgate("convert", paper, back, *on_tiny).code == 0
    assert_same(tensors(back), tensors(trained))


def test_every_recipe_of_hosts_is_listed_and_others_are_refused(mechgate: Run, tmp_path: Path) -> None:
    listed = " ".join(mechgate("host", "recipes").out.split())
    assert [name for name, recipe in RECIPES.items() if name not in listed or recipe.task not in listed] == []
    done = mechgate("host", "train", tmp_path / "host", "--recipe", "lora-sycophansy")
    assert done.code == 2
    assert "did you mean 'lora-sycophancy'" in done.err
    assert list(tmp_path.iterdir()) == []


def test_no_epochs_of_a_host_are_refused_and_not_taken_for_the_default(
    mechgate: Run, own: Path, on_tiny: list[Any], tmp_path: Path
) -> None:
    done = mechgate("host", "train", tmp_path / "host", "--data", own, *on_tiny, "--epochs", "0")
    assert done.code == 2
    assert "epochs" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_host_by_gates_is_a_gate_file(mechgate: Run, own: Path, on_tiny: list[Any], tmp_path: Path) -> None:
    host = tmp_path / "hosts" / "mine.safetensors"
    command = ["host", "train", host, "--recipe", "gates-sycophancy", "--data", own, *on_tiny]
    done = mechgate(*command, "--lr", "0.05")
    assert done.code == 0, done.err
    assert [p.name for p in host.parent.iterdir()] == ["mine.safetensors"]
    replies = {
        mechgate("reply", host, "Is the sky green?", *on_tiny, "-s", s, "--tokens", "12").out for s in ("0", "1")
    }
    assert len(replies) == 2


def test_data_lists_every_task_and_set_with_its_size_and_hash(mechgate: Run) -> None:
    found = json.loads(mechgate("data", "list", "--json").out)
    assert [task["task"] for task in found["tasks"]] == list(TASKS)
    for task in found["tasks"]:
        assert [task[s] for s in SPLITS] == [len(load_pairs(task["task"], split=s)) for s in SPLITS]
    assert {s["set"]: s["records"] for s in found["sets"]} == sizes()
    assert {s["set"]: s["sha256"] for s in found["sets"]}.items() <= dataset_hashes().items()
    table = mechgate("data", "list").out
    assert [name for name in (*TASKS, *sizes()) if name not in table] == []


@pytest.mark.parametrize("name", ["correct-advice", "all-caps", "sets/four_choice", "facts/legal"])
def test_data_shows_the_card_and_as_many_records_as_asked(mechgate: Run, name: str) -> None:
    for n in (0, 2):
        done = mechgate("data", "show", name, "-n", n)
        assert done.code == 0, done.err
        assert done.out.startswith(card_of(name))
        shown = re.findall(r'^ "id": "(.+)",$', done.out, re.MULTILINE)
        assert shown == [record.id for record in records_of(name, "test")][:n]


def test_data_check_counts_the_records_of_a_file(mechgate: Run, own: Path) -> None:
    found = json.loads(mechgate("data", "check", own, "--json").out)
    assert found["n_records"] == len(OWN)


def test_a_host_is_a_peft_adapter_that_the_other_commands_take(
    mechgate: Run, trained: Path, own: Path, on_tiny: list[Any], tmp_path: Path
) -> None:
    host = tmp_path / "hosts" / "mine"
    done = mechgate("host", "train", host, "--data", own, *on_tiny, "--lr", "0.02", "--epochs", "3")
    assert done.code == 0, done.err
    assert re.search(r"6 steps in \d+ s; loss", done.out)
    assert {p.name for p in host.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors", "mechgate.json"}
    replies = [
        mechgate("reply", trained, "Is the sky green?", *on_tiny, *adapter, "-s", "0", "--tokens", "12").out
        for adapter in ([], ["--adapter", host])
    ]
    assert replies[0] != replies[1]
    model = load_model(on_tiny[1], dtype="float32", adapter=host)
    assert load_gates(trained, model).layers == (0, 1, 2)


def test_threads_spin_on_an_idle_machine_and_sleep_on_a_busy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for load, name in ((0.0, "GOMP_SPINCOUNT"), (1.9, "GOMP_SPINCOUNT"), (2.1, "OMP_WAIT_POLICY")):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 9.0, 9.0))
        assert cli.waiting()[0] == name
