"""Laws of the paper's `gating_params.pth`: read safely, written only where it can hold the gates."""

import errno
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.errors import GateFileError, StorageError
from mechgate.gates import storage
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates, save_paper
from mechgate.testing import tiny_model

KEY = "model.layers.{}.self_attn.gate_proj_myself.{}"


@pytest.fixture
def gates(llama: Any, shaken: Callable[..., GateSet]) -> GateSet:
    """Full element gates of the tiny Llama, with random parameters."""
    return shaken(GateSet.identity(llama))


def held(layers: int = 3) -> dict[Any, Any]:
    """What the paper's file holds for the tiny Llama, with zeros."""
    found: dict[Any, Any] = {}
    for layer in range(layers):
        found |= {KEY.format(layer, "weight"): torch.zeros(64, 32), KEY.format(layer, "bias"): torch.zeros(64)}
    return found


def logits(model: Any, gates: GateSet, tokens: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    with torch.no_grad(), gates.attached(model, strength):
        return model(tokens)


@pytest.mark.parametrize("strength", [1.0, -1.0])
def test_the_papers_format_round_trips(
    llama: Any, gates: GateSet, strength: float, tmp_path: Path, tokens: torch.Tensor
) -> None:
    path = save_paper(gates.scaled(strength), tmp_path / "gating_params.pth")
    loaded = load_gates(path, llama)
    assert loaded.scale == 1.0
    for layer in gates.layers:
        for name in ("weight", "bias"):
            expected = strength * getattr(gates.gate(layer), name)
            assert torch.equal(getattr(loaded.gate(layer), name), expected)
    assert torch.equal(logits(llama, loaded, tokens), logits(llama, gates, tokens, strength))
    assert loaded.history["format"] == "gating_params.pth"


def test_the_file_is_a_plain_dict_under_the_papers_names(gates: GateSet, tmp_path: Path) -> None:
    stored = torch.load(save_paper(gates, tmp_path / "p.pth"), weights_only=True)
    assert {name: tuple(value.shape) for name, value in stored.items()} == {
        name: tuple(value.shape) for name, value in held().items()
    }
    assert not any(value.requires_grad for value in stored.values())


def test_half_precision_is_read_as_fp32_and_some_layers_are_enough(llama: Any, tmp_path: Path) -> None:
    second = {name: value.bfloat16() + 0.5 for name, value in held().items() if ".1." in name}
    torch.save(second, tmp_path / "p.pth")
    loaded = load_gates(tmp_path / "p.pth", llama)
    assert loaded.layers == (1,)
    assert loaded.gate(1).bias.dtype == torch.float32
    assert (loaded.gate(1).bias == 0.5).all()


def test_it_cannot_be_read_without_the_model(gates: GateSet, tmp_path: Path) -> None:
    with pytest.raises(GateFileError, match=r"does not say which model.*load_gates\(path, model\)"):
        load_gates(save_paper(gates, tmp_path / "p.pth"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (held() | {"model.layers.0.mlp.w": torch.zeros(2)}, r"key.*model\.layers\.0\.mlp\.w\..*gate_proj_myself"),
        (held() | {KEY.format(0, "scale"): torch.zeros(2)}, r"key.*gate_proj_myself\.scale"),
        (held() | {KEY.format(0, "bias"): [0.0] * 64}, r"key.*gate_proj_myself\.bias"),
        (held() | {5: torch.zeros(2)}, r"key.*Got: 5"),
        (held(layers=4), r"layers that the model lacks.*3.*0 to 2"),
        (held() | {KEY.format(0, "weight"): torch.zeros(64, 8)}, r"does not hold the tensors.*size mismatch"),
        ({KEY.format(0, "weight"): torch.zeros(64, 32)}, r"does not hold the tensors.*Missing.*bias"),
        (held() | {KEY.format(2, "bias"): torch.full((64,), torch.nan)}, r"not finite.*gates\.2\.bias"),
        ({}, r"not the paper's format.*dict"),
        ([torch.zeros(2)], r"not the paper's format.*list"),
        (torch.zeros(2), r"not the paper's format.*Tensor"),
    ],
    ids=["key", "parameter", "no tensor", "number", "layer", "size", "missing", "nan", "empty", "list", "tensor"],
)
def test_content_that_is_not_the_papers_is_refused(llama: Any, tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "p.pth")
    with pytest.raises(GateFileError, match=words):
        load_gates(tmp_path / "p.pth", llama)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.002, 0.1, 0.5, 0.99])
def test_a_cut_file_is_refused(llama: Any, tmp_path: Path, part: float, zipped: bool) -> None:
    path = tmp_path / "p.pth"
    torch.save(held(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(GateFileError, match=r"p\.pth is damaged"):
        load_gates(path, llama)


class Trap:
    """Makes a file when unpickled, as hostile files do worse."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("way", ["torch", "legacy", "pickle"])
@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".safetensors", ".pkl"])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_is_executed(
    llama: Any, tmp_path: Path, way: str, ending: str
) -> None:
    path, marker = tmp_path / f"gates{ending}", tmp_path / "executed"
    content = held() | {KEY.format(0, "bias"): Trap(marker)}
    if way == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(GateFileError, match="damaged"):
        load_gates(path, llama)
    assert not marker.exists()
    content = io.BytesIO(path.read_bytes())
    _ = pickle.load(content) if way == "pickle" else torch.load(content, weights_only=False)
    assert marker.exists()  # the trap was real


@pytest.mark.parametrize(
    "kind", [dict(granularity="head"), dict(rank=2), dict(input="static"), dict(layers=[0, 1])], ids=str
)
def test_gates_that_the_format_cannot_hold_are_not_written(llama: Any, tmp_path: Path, kind: dict[str, Any]) -> None:
    with pytest.raises(GateFileError, match=r"cannot hold these gates.*full-rank linear element.*gates\.save"):
        save_paper(GateSet.identity(llama, **kind), tmp_path / "p.pth")
    assert not (tmp_path / "p.pth").exists()


def test_a_scale_other_than_plus_or_minus_one_is_not_written(gates: GateSet, tmp_path: Path) -> None:
    with pytest.raises(GateFileError, match=r"scale \+1 or -1"):
        save_paper(gates.scaled(0.5), tmp_path / "p.pth")


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")],
    ids=["system", "torch"],
)
def test_a_full_disk_leaves_the_old_file_as_it_was(
    gates: GateSet, tmp_path: Path, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any, path: Path) -> None:
        Path(path).write_bytes(b"half of it")
        raise failure

    path = save_paper(gates, tmp_path / "p.pth")
    before = path.read_bytes()
    monkeypatch.setattr(storage.torch, "save", fail)
    words = r"cannot write.*(No space left|PytorchStreamWriter).*nothing was overwritten"
    with pytest.raises(StorageError, match=words):
        save_paper(gates.negated(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_shape_must_be_the_models(gates: GateSet, tmp_path: Path) -> None:
    path = save_paper(gates, tmp_path / "p.pth")
    with pytest.raises(GateFileError, match="does not hold the tensors"):
        load_gates(path, tiny_model("llama", head_dim=8))
