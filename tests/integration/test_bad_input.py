"""Laws of bad input: whatever is wrong, one paragraph says what and what to do, with exit code 2, and nothing is left."""

import contextlib
import errno
import json
import os
import pickle
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mechgate.gates.gateset import GateSet
from mechgate.model.loading import load_model

Run = Any  # the fixture `mechgate`
USER, ASSISTANT = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}


def chat(*messages: Any, times: int = 1) -> str:
    return (json.dumps({"messages": list(messages)}) + "\n") * times


class Evil:
    """A pickle of this makes the file `executed` in the working folder, if it is executed."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, chat_model: Callable[..., Any]) -> Path:
    """A folder of models and gate files, whole and damaged in every way, that the commands below name."""
    w = tmp_path_factory.mktemp("world")
    shutil.copytree(model_folder, w / "model")
    chat_model(w / "other", seed=5, max_position_embeddings=512)
    chat_model(w / "wider", hidden_size=48, max_position_embeddings=512)
    chat_model(w / "no-template", template=None)
    for name in ("no-tokenizer", "cut", "bad-config", "bad-tokenizer"):
        shutil.copytree(model_folder, w / name)
    for part in (*(w / "no-tokenizer").glob("token*"), *(w / "no-tokenizer").glob("chat_template*")):
        part.unlink()
    weights = w / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    (w / "bad-config" / "config.json").write_text("{")
    (w / "bad-tokenizer" / "tokenizer.json").write_text("{")
    (w / "bad.gguf").write_bytes(b"GGUF" + bytes(40))
    (w / "empty").mkdir()
    (w / "file").write_text("a regular file")
    (w / "good.jsonl").write_text(chat(USER, ASSISTANT))

    model = load_model(w / "model", dtype="float32")
    gates = GateSet.identity(model).save(w / "gates.safetensors")
    GateSet.identity(model, "head").save(w / "head.safetensors")
    whole = gates.read_bytes()
    (w / "cut.safetensors").write_bytes(whole[:-100])
    (w / "random.safetensors").write_bytes(bytes(i * 37 % 251 for i in range(999)))
    (w / "empty.safetensors").write_bytes(b"")
    save_file({"x": torch.zeros(2)}, w / "foreign.safetensors")
    with safe_open(gates, framework="pt") as file:
        header = json.loads(file.metadata()["mechgate"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    save_file(tensors, w / "v99.safetensors", metadata={"mechgate": json.dumps({**header, "format_version": 99})})
    (w / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    torch.save({"a": Evil()}, w / "evil-zip.pth")
    torch.save({"a": torch.zeros(2)}, w / "foreign.pth")
    (w / "random.pth").write_bytes(bytes(i * 37 % 251 for i in range(999)))
    adapter = w / "bad-adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}')
    (adapter / "adapter_model.safetensors").write_bytes(b"xx")
    return w


ON = "--model {w}/model --dtype float32"
TRAIN = "train {out}/g.safetensors --data {w}/good.jsonl"
REPLY = "reply {w}/gates.safetensors Hi --tokens 2"
CASES = {
    # models
    "alias with a near miss": (f"{TRAIN} --model smollm2-135", "unknown model alias|smollm2-135m|did you mean"),
    "no such folder": (f"{TRAIN} --model {{w}}/nowhere", "no model there|nowhere|folder"),
    "a folder without weights": (f"{TRAIN} --model {{w}}/empty", "holds no Hugging Face model|config.json"),
    "weights cut short": (f"{TRAIN} --model {{w}}/cut", "could not be loaded|/cut|Safetensor"),
    "a damaged config": (f"{TRAIN} --model {{w}}/bad-config", "could not be loaded|config.json"),
    "a damaged tokenizer": (f"{TRAIN} --model {{w}}/bad-tokenizer", "tokenizer in|bad-tokenizer|could not be loaded"),
    "a damaged gguf": (f"{TRAIN} --model {{w}}/bad.gguf", "bad.gguf could not be loaded"),
    "no chat template": (f"{TRAIN} --model {{w}}/no-template", "no chat template|instruction-tuned"),
    "no tokenizer": (f"{TRAIN} --model {{w}}/no-tokenizer", "without a tokenizer|token ids only"),
    "a hub id without a network": (f"{TRAIN} --model someone/some-model", "someone/some-model|hub|the network"),
    "an unknown dtype": (f"{TRAIN} --model {{w}}/model --dtype float8", "dtype|'float8'|bfloat16"),
    # settings
    "an unknown granularity": (f"{TRAIN} {ON} --granularity heads", "granularity|'heads'|did you mean 'head'"),
    "an unknown input": (f"{TRAIN} {ON} --input none", "input|'none'|linear, static"),
    "rank 0": (f"{TRAIN} {ON} --rank 0", "rank=0|1 to 32"),
    "a rank above the model's": (f"{TRAIN} {ON} --rank 99", "rank=99|1 to 32"),
    "a rank without W": (f"{TRAIN} {ON} --rank 2 --input static", "rank=2|static"),
    "no epochs": (f"{TRAIN} {ON} --epochs 0", "training setting|'epochs': 0|> 0"),
    "no batch": (f"{TRAIN} {ON} --batch-size 0", "training setting|'batch_size': 0"),
    "lr that is no number": (f"{TRAIN} {ON} --lr nan", "training setting|'lr': nan"),
    "a host's lr below 0": (
        f"host train {{out}}/h --data {{w}}/good.jsonl {ON} --lr=-1",
        "training setting|'lr': -1.0",
    ),
    "an unknown task": ("train {out}/g.safetensors --task sycophany", "task|'sycophany'|did you mean 'sycophancy'"),
    "an unknown domain": ("train {out}/g.safetensors --domain medcal", "domain|'medcal'|did you mean 'medical'"),
    "no domain": ("dose {w}/gates.safetensors --domain ''", "domain|''|medical"),
    "an unknown split": ("dose {w}/gates.safetensors --split tset", "split|'tset'|train, dev, test"),
    "a strength of infinity": (f"{REPLY} {ON} --strength=0,inf", "finite number|'inf'|-1 for the inversion"),
    "a strength that is no number": (f"{REPLY} {ON} --strength=strong", "finite number|'strong'"),
    "no strength": (f"{REPLY} {ON} --strength=", "finite number|''"),
    "a gap between strengths": (f"{REPLY} {ON} --strength=1,,2", "finite number|''"),
    "no tokens": (f"reply {{w}}/gates.safetensors Hi {ON} --tokens 0", "max_new_tokens=0|>= 1"),
    "a temperature below 0": (f"{REPLY} {ON} --temperature=-1", "temperature=-1.0|temperature >= 0"),
    "more tokens than the context": (f"reply {{w}}/gates.safetensors Hi {ON} --tokens 9999", "context|512 tokens"),
    # gate files
    "no gate file": ("show {w}/none.safetensors", "no gate file there|none.safetensors"),
    "a gate file cut short": ("show {w}/cut.safetensors", "cut.safetensors is damaged"),
    "random bytes as a gate file": (f"reply {{w}}/random.safetensors Hi {ON}", "random.safetensors is damaged"),
    "an empty gate file": ("show {w}/empty.safetensors", "empty.safetensors is damaged"),
    "a safetensors file of something else": ("show {w}/foreign.safetensors", "not one of gates"),
    "gates of a later version": (
        "show {w}/v99.safetensors",
        "another format version|99|the mechgate version that wrote it",
    ),
    "gates for another shape": (f"{REPLY} --model {{w}}/wider --dtype float32", "another shape|d_model 32 against 48"),
    "gates for other weights": (f"{REPLY} --model {{w}}/other --dtype float32", "whose weights differ|fingerprint"),
    "the paper's format has no header": ("show {w}/foreign.pth", "no header|mechgate convert"),
    "a pickle with code": (f"reply {{w}}/evil.pth Hi {ON}", "more than tensors|nothing in it was executed"),
    "a torch file with code": (
        f"convert {{w}}/evil-zip.pth {{out}}/c.safetensors {ON}",
        "nothing in it was executed|mkdir",
    ),
    "a torch file of something else": (
        f"convert {{w}}/foreign.pth {{out}}/c.safetensors {ON}",
        "a key that|gate_proj_myself",
    ),
    "random bytes as a torch file": (f"convert {{w}}/random.pth {{out}}/c.safetensors {ON}", "random.pth is damaged"),
    "an unknown target format": ("convert {w}/gates.safetensors {out}/c.bin", "ending says the format|c.bin|.pth"),
    "gates the paper cannot hold": ("convert {w}/head.safetensors {out}/c.pth", "paper's format cannot hold|a head"),
    # places
    "gates in the paper's ending": (f"train {{out}}/g.pth --data {{w}}/good.jsonl {ON}", "named .safetensors|g.pth"),
    "gates below a regular file": (
        f"train {{w}}/file/g.safetensors --data {{w}}/good.jsonl {ON}",
        "cannot write|another place",
    ),
    "gates where a folder is": (f"train {{w}}/empty --data {{w}}/good.jsonl {ON}", "be no folder|empty"),
    "a host below a regular file": (
        f"host train {{w}}/file/h --data {{w}}/good.jsonl {ON}",
        "cannot write|another place",
    ),
    "a host over something else": (f"host train {{w}}/model --data {{w}}/good.jsonl {ON}", "else than an adapter"),
    "a demo below a regular file": ("demo --folder {w}/file/demo -q", "cannot write|prereg.yaml"),
    "no adapter": (f"{REPLY} {ON} --adapter {{w}}/nowhere", "no peft adapter there|adapter_config.json"),
    "a damaged adapter": (f"{REPLY} {ON} --adapter {{w}}/bad-adapter", "bad-adapter is damaged or does not fit"),
}
DATA = {
    "not JSON": (chat(USER, ASSISTANT) + '{"messages": [\n', "line 2 is not JSON"),
    "no object": ("[1, 2]\n", "line 1 has no key 'messages'|list"),
    "no messages": ('\n{"prompt": "Hi", "completion": "Yes"}\n', "line 2 has no key 'messages'|prompt"),
    "messages that are no list": ('{"messages": "Hi"}\n', "line 1, messages|'Hi'"),
    "one message": (chat(USER), "line 1, messages|at least a user's and an assistant's"),
    "no content": (chat(USER, ASSISTANT, times=2) + chat({"role": "user"}, ASSISTANT), "line 3, messages[0] lacks"),
    "content that is no text": (chat({"role": "user", "content": ["Hi"]}, ASSISTANT), "line 1, messages[0]|no text"),
    "an unknown role": (chat({"role": "human", "content": "Hi"}, ASSISTANT), "line 1, messages[0]|human|system, user"),
    "no answer at the end": (chat(ASSISTANT, USER), "line 1|last message must be the assistant's|user"),
    "two answers": (chat(USER, ASSISTANT, ASSISTANT), "line 1|must end with the user's turn"),
    "an empty answer": (chat(USER, {"role": "assistant", "content": " \n"}), "line 1|empty response"),
    "an answer beyond the context": (
        chat(USER, ASSISTANT) + chat(USER, {"role": "assistant", "content": "word " * 900}),
        "example 1|longer than the model's context|at most 512 tokens|never truncates",
    ),
    "half a character": (chat(USER, {"role": "assistant", "content": "a\ud83db"}), "surrogate"),
    "nothing": ("\n \n", "holds no examples|one object a line"),
    "no UTF-8": (b'{"messages": "\xe9"}\n', "cannot be read as UTF-8 text"),
}


def files(*folders: Path) -> dict[str, int]:
    """Everything in the folders, with sizes."""
    return {str(p): p.stat().st_size for folder in folders for p in folder.rglob("*")}


def check(mechgate: Run, command: str, words: str, world: Path, out: Path) -> str:
    """Run a command that must fail; returns its message. `words` are the message's parts, with | between them."""
    before = files(world, out)
    done = mechgate(*shlex.split(command.format(w=world, out=out)))
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("mechgate: ")
    assert done.err.count("\n") == 1, "more than one paragraph"
    assert "Traceback" not in done.err
    assert not [word for word in words.split("|") if word not in done.err], done.err
    assert not {word for word in ("..", "?.", "weights_only") if word in done.err.replace("...", "")}, done.err
    assert files(world, out) == before
    return done.err


@pytest.mark.parametrize(("command", "words"), CASES.values(), ids=CASES)
def test_bad_input_is_one_clear_paragraph_and_leaves_nothing(
    mechgate: Run, command: str, words: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(mechgate, command, words, world, tmp_path)


@pytest.mark.parametrize(("content", "words"), DATA.values(), ids=DATA)
def test_bad_data_names_file_and_line_and_leaves_nothing(
    mechgate: Run, content: str | bytes, words: str, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "own data.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    train = f"train {{out}}/g.safetensors --data '{{out}}/own data.jsonl' {ON}"
    message = check(mechgate, train, words, world, tmp_path)
    assert "own data.jsonl" in message or "training example" in message


@pytest.mark.parametrize(
    "command", [f"reply {{w}}/evil.pth Hi {ON}", f"convert {{w}}/evil-zip.pth {{out}}/c.safetensors {ON}"]
)
def test_the_same_pickles_do_run_code_when_they_are_read_carelessly(
    mechgate: Run, command: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without this, the tests above would also pass on pickles that can do nothing.
    monkeypatch.chdir(tmp_path)
    check(mechgate, command, "nothing in it was executed", world, tmp_path)
    file = shlex.split(command)[1].format(w=world)
    with contextlib.suppress(RuntimeError):  # the plain pickle is no torch file, which torch finds out too late
        torch.load(file, weights_only=False)
    assert (tmp_path / "executed").is_dir()


@pytest.mark.parametrize("place", ["mechgate.gates.storage.save_file", "mechgate.provenance.os.replace"])
@pytest.mark.parametrize("command", ["train", "convert"])
def test_a_full_disk_says_so_and_keeps_the_old_file(
    mechgate: Run, place: str, command: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "g.safetensors").write_bytes(b"old")
    monkeypatch.setattr(place, full)
    source = "--data {w}/good.jsonl" if command == "train" else ""
    paths = "{out}/g.safetensors" if command == "train" else "{w}/gates.safetensors {out}/g.safetensors"
    done = mechgate(*shlex.split(f"{command} {paths} {source} {ON}".format(w=world, out=tmp_path)))
    assert done.code == 2
    assert done.err.startswith("mechgate: cannot write")
    assert "No space left on device" in done.err
    assert "free some space" in done.err
    assert (tmp_path / "g.safetensors").read_bytes() == b"old"
    # A checkpoint that was written before the disk was full is kept: the training is not lost.
    assert {p.name for p in tmp_path.iterdir()} <= {"g.safetensors", "g.checkpoint"}


def test_a_checkpoint_of_another_training_is_refused_and_kept(mechgate: Run, world: Path, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "g.checkpoint", metadata={"identity": "another"})
    check(mechgate, f"{TRAIN} {ON}", "g.checkpoint belongs to another run|delete it", world, tmp_path)
