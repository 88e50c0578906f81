"""A tiny chat model in a folder, and the command line run inside the test's own process."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from mechgate import cli
from mechgate.report.results import read_result
from mechgate.report.sections import section
from mechgate.testing import tiny_chat_model as build_chat_model


@dataclass(frozen=True)
class Outcome:
    """What one call of the command line did."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_no_bars() -> Iterator[None]:
    """One thread: tiny models gain nothing from a second. And no bars, which the command line switches off itself,
    but only before the libraries are imported."""
    before, bars = torch.get_num_threads(), is_progress_bar_enabled()
    torch.set_num_threads(1)
    disable_progress_bar()
    yield
    torch.set_num_threads(before)
    if bars:
        enable_progress_bar()


@pytest.fixture(scope="session")
def chat_model() -> Callable[..., Any]:
    """`chat_model(folder, seed=0, ...)`: writes a tiny Llama with a chat template there and loads it."""
    return build_chat_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny chat model that knows the shipped prompts' length."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    build_chat_model(folder, max_position_embeddings=512)
    return folder


@pytest.fixture
def mechgate(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`mechgate("show", path)`: the command in this process, with its exit code and what it printed."""

    def run(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mechgate", *map(str, arguments)])
        capfd.readouterr()
        try:
            code = cli.main()
        except SystemExit as stop:
            code = stop.code
        return Outcome(int(code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def reported() -> Callable[[Path], None]:
    """`reported(folder / "NAME.json")`: the report tells this result in full, as one whose numbers it knows."""

    def check(path: Path) -> None:
        found = section(path.stem, read_result(path), path)
        assert found.how
        assert found.tables
        assert {len(row) == len(table.columns) for table in found.tables for row in table.rows} == {True}
        assert not [text for text in found.caveats if "top-level numbers" in text]

    return check
