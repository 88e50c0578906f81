"""Laws of progress output: it never changes what is iterated over, and says how long the rest will take."""

import io
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from mechgate import progress
from mechgate.progress import is_quiet, track


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=["quiet", "log", "terminal"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to show progress, in turn."""
    monkeypatch.setenv("MECHGATE_QUIET", "1" if request.param == "quiet" else "0")
    if request.param == "terminal":
        monkeypatch.setattr(sys, "stderr", Terminal())
    return request.param


def tick(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """A clock in which `step` seconds pass between one look and the next."""
    times = iter(range(10_000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times) * step))


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("n", [0, 1, 7])
def test_items_come_out_as_they_went_in(n: int) -> None:
    assert list(track(range(n), "x")) == list(range(n))
    assert list(track((i for i in range(n)), "x")) == list(range(n))
    assert list(track((i for i in range(n)), "x", total=n)) == list(range(n))
    assert list(track({"a": 1, "b": 2}, "x")) == ["a", "b"]


@pytest.mark.usefixtures("mode")
def test_with_a_total_items_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for i in range(5):
            taken.append(i)
            yield i

    shown = track(source(), "x", total=5)
    assert [next(shown), next(shown)] == [0, 1]
    assert taken == [0, 1]


@pytest.mark.usefixtures("mode")
def test_errors_of_the_source_reach_the_caller() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        list(track(source(), "x", total=3))


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_quiet_is_any_value_but_0(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool) -> None:
    monkeypatch.delenv("MECHGATE_QUIET")
    if value is not None:
        monkeypatch.setenv("MECHGATE_QUIET", value)
    assert is_quiet() is expected


def test_when_quiet_nothing_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tick(monkeypatch, 100)
    assert list(track(range(5), "label")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_without_a_label_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MECHGATE_QUIET", "0")
    tick(monkeypatch, 100)
    assert list(track(range(5), None)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_what_is_quick_leaves_a_log_clean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MECHGATE_QUIET", "0")
    tick(monkeypatch, 0.5)
    list(track(range(5), "label"))
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_now_and_then_with_the_time_left_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MECHGATE_QUIET", "0")
    tick(monkeypatch, 10)
    list(track(range(5), "label"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "label: 2/5, 20 s gone, about 30 s left",
        "label: 4/5, 40 s gone, about 10 s left",
        "label: 5/5 in 60 s",
    ]


def test_a_terminal_gets_a_bar_with_label_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MECHGATE_QUIET", "0")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(track(range(3), "measuring"))
    assert "measuring" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_leaving_early_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MECHGATE_QUIET", "0")
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = track(range(3), "first")
    next(shown)
    shown.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert list(track(range(2), "second")) == [0, 1]
