"""A small model, hardly trained: laws hold on it as on any other."""

from pathlib import Path

import pytest

from mechgate.planted.toy import toy_world
from mechgate.planted.world import World


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The small world after one epoch; leave it as it was."""
    return toy_world(tmp_path_factory.mktemp("small") / "model", seed=0, epochs=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder."""
    return tmp_path / "run"
