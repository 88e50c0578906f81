"""Laws of what a terminal shows after the demo: every table, the verdict and every file, in plain text."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mechgate.report.terminal import print_demo


def printed(numbers: dict[str, Any], folder: Path = Path("runs/demo"), width: int = 140) -> str:
    """What is printed on a terminal of `width` columns."""
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False)
    print_demo(numbers, folder, console)
    return console.export_text()


def test_every_section_is_there_in_order(numbers: dict[str, Any]) -> None:
    text = printed(numbers)
    titles = ("Stance margin:", "Content-bearing margin", "Free replies", "Verdict", "Written", "This run took 321 s.")
    places = [text.index(title) for title in titles]
    assert places == sorted(places)


def test_the_margins_of_each_host_and_set_stand_in_one_row(numbers: dict[str, Any]) -> None:
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in printed(numbers).splitlines() if "│" in line]
    assert [
        "base",
        "false, medical",
        "20",
        "-3.00 [-3.25, -2.75]",
        "-1.00 [-1.25, -0.75]",
        "+1.00 [+0.75, +1.25]",
    ] in rows
    assert [
        "lora",
        "true, all domains",
        "20",
        *("+2.50 [+2.25, +2.75]", "+4.00 [+3.75, +4.25]", "+5.50 [+5.25, +5.75]"),
    ] in rows
    assert ["false, medical", "-1", "+0.40 [+0.15, +0.65]", "+0.10", "+0.10", "+0.10"] in rows
    assert ["base", "false", "-1", "40", "12%", "75%", "12%", "0%", "1.25"] in rows
    assert ["lora", "true", "+1", "40", "88%", "0%", "12%", "0%", "1.25"] in rows


def test_a_strength_that_was_not_measured_leaves_an_empty_cell(numbers: dict[str, Any]) -> None:
    numbers["curves"]["lora"]["false, medical"] = numbers["curves"]["lora"]["false, medical"][:2]
    row = next(line for line in printed(numbers).splitlines() if "lora" in line and "false, medical" in line)
    assert [c.strip() for c in row.split("│")][-2] == ""


def test_the_verdict_is_printed_as_it_is_brackets_and_all(numbers: dict[str, Any]) -> None:
    text = printed(numbers, width=40)
    assert "- The first sentence." in text
    assert "- The [second] one." in text


@pytest.mark.parametrize(
    "name", ["reversal.png", "results.json", "replies.csv", "rows.csv", "gates.safetensors", "host", "prereg.yaml"]
)
def test_every_file_is_named_with_its_folder_whole_even_on_a_narrow_terminal(
    numbers: dict[str, Any], name: str
) -> None:
    folder = Path("a folder [1]/with a rather long name, so that lines would have to break")
    assert f"  {folder / name}  - " in printed(numbers, folder, width=40)


def test_without_a_console_it_goes_to_standard_output(
    numbers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_demo(numbers, Path("runs/demo"))
    out, err = capsys.readouterr()
    assert "Verdict" in out
    assert err == ""


def test_an_arm_without_any_words_has_no_surprise(numbers: dict[str, Any]) -> None:
    numbers["replies"][0]["surprise"] = None
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in printed(numbers).splitlines() if "│" in line]
    assert ["base", "false", "-1", "40", "12%", "75%", "12%", "0%", "-"] in rows
