"""The figure draws what failed as such and skips what was not measured."""

from pathlib import Path

from mechgate.report.calibration import draw_calibration

SHARE = {"value": 0.1, "low": 0.05, "high": 0.2, "n": 40}


def test_png_and_svg_are_written_with_failures_named(tmp_path: Path) -> None:
    p = {
        "rejections": {"share": SHARE, "nominal": 0.05, "limit": 0.1, "within": True},
        "question": "uniform",
        "calibrated": False,
        "quantiles": [i / 20 for i in range(21)],
    }
    world = {
        "wrong": {"share": SHARE, "nominal": 0.05, "limit": 0.09, "within": False},
        "p": {"p, rank": p},
        "coverage": {"E": SHARE, "sigma": None},
    }
    outcomes = dict.fromkeys(("selective", "partly selective", "not selective"), SHARE)
    power = [{"sets": 5, "facts": n, "sigma": s, "n": 20, "outcomes": outcomes} for n in (24, 120) for s in (0.0, 1.0)]
    numbers = {"worlds": {"inert": world, "unrelated": world}, "power": power, "tests": {"nulls": p}}
    png, svg = draw_calibration(numbers, tmp_path / "calibration.png", caption="n = 40\nsecond line")
    assert png.stat().st_size > 10_000
    text = svg.read_text(encoding="utf-8")
    assert "rank, inert (uniform: fails)" in text
    assert "second line" in text
