"""What the README shows must run as it stands."""

import re
from pathlib import Path

import pytest

from mechgate.gates.storage import read_header

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.model
def test_the_library_in_ten_lines_runs_and_turns_the_margin(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    margins = {float(line.split()[0]): float(line.split()[1]) for line in capsys.readouterr().out.splitlines()}
    assert margins[-1.0] < margins[0.0] < margins[1.0]
    assert read_header(tmp_path / "gates.safetensors")["history"]["n_examples"] == 60


def test_every_command_in_the_readme_exists():
    from typer.main import get_command

    from mechgate.cli import app

    known = get_command(app)
    # A block opens at an odd fence: only what stands inside one is a command.
    inside = "\n".join(re.split(r"^```\w*$", README.read_text(encoding="utf-8"), flags=re.M)[1::2])
    words = re.findall(r"^mechgate (\w+)", inside, re.M)
    assert words
    assert set(words) <= set(known.commands)


def test_every_path_in_the_readme_exists():
    root = README.parent
    named = re.findall(r"^\| `([\w/]+)` \|", README.read_text(encoding="utf-8"), re.M)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text(encoding="utf-8"))
    assert named
    for path in [*named, *pictures]:
        assert (root / path).exists(), path
