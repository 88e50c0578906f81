"""Laws of what the report page is made of: cells, whose figure is whose, overlaps, tidy data, plain sections."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechgate.errors import DataError
from mechgate.report.comparison import overlap, settings_table
from mechgate.report.pictures import LARGEST_SVG, owners, picture, pictures, stems
from mechgate.report.sections import SECTIONS, ordered, section
from mechgate.report.sections.parts import cell, minus, p_value, share, strength
from mechgate.report.sections.verdict import ANSWERS
from mechgate.report.tidy import COLUMNS, tidy
from mechgate.stats.selectivity import OUTCOMES

PNG = b"\x89PNG\r\n\x1a\n"
ENDS = st.tuples(st.integers(-5, 5), st.integers(-5, 5)).map(sorted)
# Results as JSON holds them: estimates, numbers, nulls and texts in records and lists.
SCALARS = (
    st.none() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["a", "b"])
)
ESTIMATES = st.builds(lambda v, n: {"value": v, "low": v - 1, "high": v + 1, "n": n}, st.integers(), st.integers(1, 9))
TREES = st.recursive(
    SCALARS | ESTIMATES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y", "set", "strength"]), inner, max_size=4)
    ),
    max_leaves=20,
)


def span(low: float, high: float, level: float = 0.95) -> dict[str, Any]:
    return {"value": (low + high) / 2, "low": low, "high": high, "level": level}


def test_every_outcome_of_the_verdict_has_an_answer() -> None:
    assert set(ANSWERS) == set(OUTCOMES)
    assert [outcome for outcome, (answer, _) in ANSWERS.items() if answer == "Yes"] == ["selective"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-3.05 [-3.36, -.5]", "−3.05 [−3.36, −.5]"),
        ("sigma = 1 - A/E", "sigma = 1 - A/E"),
        ("lora-0, sycophancy-1-9f", "lora-0, sycophancy-1-9f"),
        ("1e-4", "1e-4"),
        ("all - sum, 2-3", "all - sum, 2-3"),
    ],
)
def test_signs_become_minus_signs_and_names_stay(text: str, shown: str) -> None:
    assert minus(text) == shown


def test_a_number_that_is_not_there_is_a_dash_and_one_without_interval_stands_alone() -> None:
    assert {cell(None), cell({"value": None, "low": None, "high": None}), p_value(None), share(None)} == {"–"}
    assert cell({"value": -1.0, "low": None, "high": None}) == "−1.00"
    assert cell(span(-2.0, 0.0)) == "−1.00 [−2.00, +0.00]"
    assert share(span(0.25, 0.75)) == "50% [25%, 75%]"
    assert [strength(s) for s in (-1, 0.0, "+1", 0.5)] == ["−1", "0", "+1", "+0.5"]
    assert [p_value(p) for p in (0.04321, 0.001, 0.0001)] == ["0.043", "0.001", "1e−4"]


@given(ENDS, ENDS)
def test_intervals_overlap_where_some_number_is_in_both(a: list[int], b: list[int]) -> None:
    slow = any(a[0] <= x <= a[1] and b[0] <= x <= b[1] for x in range(-5, 6))
    assert overlap(span(*a), span(*b)) == overlap(span(*b), span(*a)) == ("yes" if slow else "no")


def test_what_cannot_be_compared_is_said() -> None:
    assert overlap(None, span(0, 1)) == "cannot be told: not defined"
    assert overlap(span(0, 1), {"value": 1, "low": None, "high": None}) == "cannot be told: no interval"
    assert overlap("selective", span(0, 1)) == "cannot be told: no interval"
    assert overlap(span(0, 1, 0.9), span(0, 1, 0.95)) == "cannot be told: levels 0.9 and 0.95"
    assert [overlap("a", other) for other in ("a", "b")] == ["same", "different"]


@given(st.dictionaries(st.sampled_from("abc"), SCALARS), st.dictionaries(st.sampled_from("abc"), SCALARS))
def test_settings_differ_where_one_is_not_the_other(a: dict[str, Any], b: dict[str, Any]) -> None:
    rows = settings_table({"part": a}, {"part": b}, ("one", "two")).rows if a and b else ()
    slow = {k for k in {*a, *b} if k not in a or k not in b or str(a[k]) != str(b[k])} if a and b else set()
    assert {row[0].removeprefix("part.") for row in rows} == slow


def test_a_figure_belongs_to_the_longest_name_that_it_begins_with() -> None:
    figures = [
        "selectivity-plane",
        "selectivity-quick-plane",
        "minimal-heads-gates-0",
        "similarity",
        "similarityx",
        "x",
    ]
    found = owners(figures, ["selectivity", "selectivity-quick", "minimal_heads", "similarity", "heads"])
    assert found == {
        "selectivity-plane": "selectivity",
        "selectivity-quick-plane": "selectivity-quick",
        "minimal-heads-gates-0": "minimal_heads",
        "similarity": "similarity",
    }


def test_figures_are_embedded_whole_in_the_order_of_their_texts(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in ("a-x.svg", "a.svg", "a-z.svg"):
        (tmp_path / "figures" / name).write_text("<svg/>", encoding="utf-8")
    (tmp_path / "figures" / "a-z.png").write_bytes(PNG)
    assert stems(tmp_path) == ["a", "a-x", "a-z"]
    found = pictures(tmp_path, stems(tmp_path), "a", {"-z": "The last.", "": "All."})
    assert [p.name for p in found] == ["a-z", "a", "a-x"]
    assert [p.alt for p in found] == ["The last.", "All.", "All. Here: x."]
    assert found[0].files == ("figures/a-z.svg", "figures/a-z.png")
    assert all(p.uri.startswith("data:image/svg+xml;base64,") for p in found)


def test_the_smaller_file_is_embedded_where_an_svg_is_large_and_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    svg, png = (tmp_path / "figures" / f"a.{kind}" for kind in ("svg", "png"))
    svg.write_bytes(b"<svg>" + b" " * LARGEST_SVG)
    png.write_bytes(PNG)
    assert picture(tmp_path, "a", "").uri.startswith("data:image/png")
    png.write_bytes(PNG + b" " * (LARGEST_SVG + 10))
    assert picture(tmp_path, "a", "").uri.startswith("data:image/svg")
    svg.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.svg"):
        picture(tmp_path, "a", "")


def leaves(value: Any) -> int:
    """How many numbers, nulls and estimates a tree of values has, strengths of records left out."""
    if isinstance(value, dict):
        if {"value", "low", "high"} <= set(value):
            return 1
        return sum(leaves(one) for k, one in value.items() if k != "strength" or isinstance(one, dict | list))
    if isinstance(value, list):
        return sum(leaves(one) for one in value)
    return int(not isinstance(value, str))


@given(TREES)
def test_tidy_data_has_a_row_a_number_with_a_place_of_its_own(numbers: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(tidy(numbers))))
    assert len(rows) == leaves(numbers)
    assert all(tuple(row) == COLUMNS for row in rows)
    assert len({(row["path"], row["strength"]) for row in rows}) == len(rows)


def test_known_results_come_first_and_unknown_ones_are_plain(tmp_path: Path) -> None:
    assert ordered(["zz", "reversal", "aa", "selectivity"]) == ["selectivity", "reversal", "aa", "zz"]
    numbers = {"e": span(0, 1), "n": 3, "rows": [1, 2], "none": None, "word": "yes"}
    found = section("zz", {"numbers": numbers, "settings": {}}, tmp_path / "zz.json")
    assert dict(found.tables[0].rows) == {
        "e": "+0.500 [+0.000, +1.000]",
        "n": "3",
        "rows": "2 entries, in the result file",
        "none": "–",
        "word": "yes",
    }
    assert found.primary == {"e": numbers["e"]}


@pytest.mark.parametrize("name", [name for name in SECTIONS if name != "selectivity"])
@pytest.mark.parametrize("numbers", [{}, [], None, {"table": 3, "maps": [], "contrasts": [{}]}])
def test_numbers_of_another_form_are_said_to_be_so(name: str, numbers: Any, tmp_path: Path) -> None:
    found = section(name, {"numbers": numbers, "settings": {}}, tmp_path / f"{name}.json")
    assert any("another form" in text for text in found.caveats)
