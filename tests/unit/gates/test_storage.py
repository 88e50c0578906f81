"""Laws of gate files: exact, whole, refused when damaged or foreign, and never executed."""

import errno
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mechgate.errors import GateFileError, StorageError
from mechgate.gates import storage
from mechgate.gates.gateset import GateSet
from mechgate.gates.nulls import null_gates
from mechgate.gates.storage import FORMAT_VERSION, load_gates, read_header, save_gates
from mechgate.model.loading import fingerprint, load_model
from mechgate.testing import tiny_hf, tiny_model

KINDS = [
    dict(),
    dict(granularity="head"),
    dict(granularity="layer", layers=[1]),
    dict(rank=2, layers=[2, 0]),
    dict(granularity="head", input="static"),
]
SHAPE = dict(n_layers=3, n_heads=4, d_head=16, d_model=32)


@pytest.fixture
def gates(llama: Any, shaken: Callable[..., GateSet]) -> GateSet:
    """Full element gates of the tiny Llama, with random parameters."""
    return shaken(GateSet.identity(llama))


@pytest.fixture
def saved(gates: GateSet, tmp_path: Path) -> Path:
    """These gates in a file."""
    return gates.save(tmp_path / "gates.safetensors")


def assert_equal(a: GateSet, b: GateSet) -> None:
    mine, theirs = a.state_dict(), b.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert {value.dtype for value in theirs.values()} == {torch.float32}
    for field in ("shape", "layers", "granularity", "input", "rank", "scale", "made_for", "history"):
        assert getattr(a, field) == getattr(b, field), field


def rewrite(path: Path, header: dict[str, Any] | None = None, **tensors: torch.Tensor | None) -> Path:
    """Change header fields and tensors (None removes one) of a gate file; `__` in names stands for a dot."""
    with safe_open(path, framework="pt") as file:
        fields = json.loads(file.metadata()["mechgate"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    held |= {name.replace("__", "."): value for name, value in tensors.items()}
    kept = {name: value for name, value in held.items() if value is not None}
    save_file(kept, path, metadata={"mechgate": json.dumps({**fields, **(header or {})})})
    return path


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_saving_and_loading_is_exact(
    llama: Any, kind: dict[str, Any], shaken: Callable[..., GateSet], tmp_path: Path, tokens: torch.Tensor
) -> None:
    gates = shaken(GateSet.identity(llama, **kind)).scaled(-0.3)
    gates.history = {"config": {"objective": "nll", "lr": 1e-3}, "losses": [1.5, 0.1], "text": "é ☃"}
    path = gates.save(tmp_path / "new" / "folder" / "g.safetensors")
    for loaded in (load_gates(path), load_gates(str(path), llama)):
        assert_equal(gates, loaded)
    with torch.no_grad(), gates.attached(llama):
        expected = llama(tokens)
    with torch.no_grad(), load_gates(path, llama).attached(llama):
        assert torch.equal(llama(tokens), expected)


def test_what_was_loaded_saves_to_the_same_tensors_and_header(saved: Path, tmp_path: Path) -> None:
    again = save_gates(load_gates(saved), tmp_path / "again.safetensors")
    assert read_header(again) == read_header(saved)
    assert_equal(load_gates(saved), load_gates(again))


def test_the_header_says_everything_without_the_tensors(gates: GateSet, saved: Path, llama: Any) -> None:
    header = read_header(saved)
    assert header["format_version"] == FORMAT_VERSION
    assert header["formula"] == "z * (1 + strength * scale * tanh((W x + b) / 2))"
    assert (header["reads"], header["writes"]) == ("blocks.L.attn.hook_in", "blocks.L.attn.hook_z")
    assert header["shape"] == SHAPE
    assert header["layers"] == [0, 1, 2]
    assert header["made_for"]["fingerprint"] == fingerprint(llama)
    assert {"torch", "transformer-lens", "python"} <= set(header["versions"])
    with safe_open(saved, framework="pt") as file:
        assert set(file.keys()) == {f"blocks.{n}.{p}" for n in range(3) for p in ("weight", "bias")}


def test_the_same_gates_give_the_same_bytes(gates: GateSet, saved: Path, tmp_path: Path) -> None:
    assert gates.save(tmp_path / "twice.safetensors").read_bytes() == saved.read_bytes()


def test_nulls_and_their_origin_survive_a_file(gates: GateSet, tmp_path: Path) -> None:
    null = null_gates(gates, family="row-sign", seed=2)
    assert_equal(null, load_gates(null.save(tmp_path / "null.safetensors")))


def test_copies_of_the_model_in_any_dtype_take_the_gates(saved: Path, gates: GateSet) -> None:
    for dtype in ("float32", "bfloat16"):
        assert_equal(gates, load_gates(saved, load_model(tiny_hf(), dtype=dtype)))


def test_a_host_made_from_the_model_by_an_adapter_takes_the_gates(saved: Path, gates: GateSet) -> None:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    host = load_model(peft.get_peft_model(tiny_hf(), config))
    assert_equal(gates, load_gates(saved, host))
    with pytest.raises(GateFileError, match="fingerprint"):
        load_gates(saved, load_model(peft.get_peft_model(tiny_hf(seed=1), config)))


def test_a_model_of_another_shape_is_refused_saying_the_dimensions(saved: Path) -> None:
    other = tiny_model("llama", num_hidden_layers=2, head_dim=8)
    with pytest.raises(GateFileError, match=r"another shape.*n_layers 3 against 2; d_head 16 against 8.*trained for"):
        load_gates(saved, other)
    with pytest.raises(GateFileError, match="another shape"):
        load_gates(saved, other, check_weights=False)


def test_a_model_of_the_same_shape_with_other_weights_is_refused_unless_asked_for(saved: Path, gates: GateSet) -> None:
    other = tiny_model("llama", seed=1)
    with pytest.raises(GateFileError, match=rf"weights differ.*fingerprint {fingerprint(other)[:12]} against.*=False"):
        load_gates(saved, other)
    assert_equal(gates, load_gates(saved, other, check_weights=False))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.5, 0.9999])
def test_a_cut_file_is_refused(saved: Path, part: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(GateFileError, match=r"damaged or is no safetensors file.*save it again"):
        load_gates(saved)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_are_refused(tmp_path: Path, llama: Any, seed: int) -> None:
    noise = np.random.default_rng(seed).bytes(3000)
    for name in ("noise.safetensors", "noise.pth", "noise"):
        (tmp_path / name).write_bytes(noise)
        with pytest.raises(GateFileError, match=rf"{name} is damaged"):
            load_gates(tmp_path / name, llama)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"mechgate": "no json"}, {"mechgate": "[]"}, {"mechgate": "{}"}]
)
def test_a_safetensors_file_of_something_else_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(GateFileError, match=r"is a safetensors file, but not one of gates"):
        load_gates(tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", ["nowhere.safetensors", "nowhere.pth", "."])
def test_a_path_without_a_file_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(GateFileError, match=r"no gate file there"):
        load_gates(tmp_path / name)
    with pytest.raises(GateFileError, match=r"no gate file there"):
        read_header(tmp_path / name)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (dict(format_version=2), r"another format version.*Got: 2.*Allowed: 1"),
        (dict(format_version=None), r"another format version"),
        (dict(shape=None), "damaged header"),
        (dict(shape=SHAPE | dict(depth=1)), "damaged header.*depth"),
        (dict(shape=SHAPE | dict(d_head=-16)), "damaged header"),
        (dict(shape=SHAPE | dict(d_head="16")), "damaged header"),
        (dict(shape=SHAPE | dict(d_head=10**14)), "damaged header|does not hold the tensors"),
        (dict(shape=SHAPE | dict(d_model=8)), "does not hold the tensors"),
        (dict(layers=7), "damaged header"),
        (dict(layers=[0, 1]), "does not hold the tensors.*gates.2.bias"),
        (dict(layers=[0, 1, 9]), "does not hold the tensors|damaged header"),
        (dict(granularity="heads"), "damaged header.*granularity"),
        (dict(granularity="head"), "does not hold the tensors"),
        (dict(input="static"), "does not hold the tensors"),
        (dict(rank=3), "does not hold the tensors"),
        (dict(scale="much"), "damaged header"),
        (dict(scale=float("nan")), "damaged header.*finite"),
        (dict(scale=float("inf")), "damaged header.*finite"),
        (dict(history=None), "damaged header"),
        (dict(made_for="a model"), "damaged header"),
    ],
    ids=str,
)
def test_a_header_that_does_not_hold_together_is_refused(
    saved: Path, header: dict[str, Any], words: str, llama: Any
) -> None:
    with pytest.raises(GateFileError, match=words):
        load_gates(rewrite(saved, header), llama)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (dict(blocks__1__bias=None), r"does not hold the tensors its gates need.*Missing.*gates\.1\.bias"),
        (dict(blocks__7__bias=torch.zeros(2)), r"does not hold the tensors.*Unexpected.*gates\.7\.bias"),
        (dict(blocks__0__bias=torch.zeros(63)), r"does not hold the tensors.*size mismatch.*63"),
        (dict(blocks__0__bias=torch.full((64,), torch.nan)), r"not finite.*gates\.0\.bias"),
        (dict(blocks__2__weight=torch.full((64, 32), torch.inf)), r"not finite.*gates\.2\.weight"),
    ],
    ids=["missing", "extra", "wrong size", "nan", "inf"],
)
def test_tensors_that_the_header_does_not_promise_are_refused(
    saved: Path, tensors: dict[str, torch.Tensor | None], words: str
) -> None:
    with pytest.raises(GateFileError, match=words):
        load_gates(rewrite(saved, **tensors))


def test_gates_for_layers_that_the_shape_lacks_are_refused(saved: Path) -> None:
    moved = {"blocks__2__weight": None, "blocks__2__bias": None}
    moved |= {"blocks__9__weight": torch.zeros(64, 32), "blocks__9__bias": torch.zeros(64)}
    with pytest.raises(GateFileError, match=r"damaged header.*layers"):
        load_gates(rewrite(saved, dict(layers=[0, 1, 9]), **moved))


@pytest.mark.parametrize(
    "failure",
    [SafetensorError("IoError: No space left on device"), OSError(errno.ENOSPC, "No space left on device")],
    ids=["safetensors", "system"],
)
def test_a_full_disk_leaves_the_old_file_as_it_was(
    gates: GateSet, saved: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any, path: Path, **__: Any) -> None:
        Path(path).write_bytes(b"half of it")
        raise failure

    before = saved.read_bytes()
    monkeypatch.setattr(storage, "save_file", fail)
    with pytest.raises(StorageError, match=r"cannot write.*No space left.*nothing was overwritten"):
        gates.negated().save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_cannot_be_made_is_a_storage_error(gates: GateSet, saved: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        gates.save(saved / "below a file" / "g.safetensors")


def test_the_ending_of_a_file_name_does_not_make_it_a_gate_file(gates: GateSet, tmp_path: Path) -> None:
    assert_equal(gates, load_gates(gates.save(tmp_path / "gates.v1")))
    (tmp_path / "gates.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(GateFileError, match="damaged"):
        load_gates(tmp_path / "gates.safetensors")
