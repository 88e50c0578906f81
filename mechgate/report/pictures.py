"""Figures of a run as part of one HTML file: each as a data URI, so that the page asks for nothing and ids cannot clash."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mechgate.errors import DataError

LARGEST_SVG = 400_000
"""Bytes: above it an SVG is embedded only if the PNG is larger still."""
_STARTS = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure: its `uri` (a data URI), `alt` text, and the `files` it stands in, relative to the run folder.

    An SVG is embedded as an image, not as elements of the page: browsers then run no script in it, load nothing for it,
    and keep its ids to itself.
    """

    name: str
    uri: str
    alt: str
    files: tuple[str, ...]


def stems(run: Path) -> list[str]:
    """The names of all figures of a run (PNG, SVG or both), sorted."""
    return sorted({path.stem for path in (run / "figures").glob("*") if path.suffix in _STARTS})


def owners(figures: Iterable[str], results: Iterable[str]) -> dict[str, str]:
    """Which result each figure belongs to: the longest name that it is, or begins with, followed by - or _.

    Hyphens and underscores count as the same. Figures that belong to none are left out.
    """
    plain = {name.replace("_", "-"): name for name in results}
    found = {}
    for figure in figures:
        text = figure.replace("_", "-")
        fitting = [key for key in plain if text == key or text.startswith(f"{key}-")]
        if fitting:
            found[figure] = plain[max(fitting, key=len)]
    return found


def picture(run: Path, stem: str, alt: str) -> Picture:
    """The figure `figures/STEM.svg` or `.png` of a run, whichever is fit to embed.

    Raises `DataError` for a file that is no such image.
    """
    files = [path for suffix in (".svg", ".png") if (path := run / "figures" / f"{stem}{suffix}").is_file()]
    chosen = files[0]
    if len(files) == 2 and files[0].stat().st_size > max(LARGEST_SVG, files[1].stat().st_size):
        chosen = files[1]
    content = chosen.read_bytes()
    if not content.lstrip().startswith(_STARTS[chosen.suffix]):
        raise DataError(f"the figure {chosen} is damaged", got=f"{len(content)} bytes", do="draw it again")
    kind = "svg+xml" if chosen.suffix == ".svg" else "png"
    return Picture(
        name=stem,
        uri=f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        alt=alt,
        files=tuple(path.relative_to(run).as_posix() for path in files),
    )


def pictures(run: Path, figures: Iterable[str], name: str, alts: Mapping[str, str]) -> list[Picture]:
    """The figures of the result `name`, those that `alts` describes first and in its order.

    `alts` maps what follows the result's name to alt text; other figures get the main one's ("") with their own name.
    """
    order = {f"{name}{end}".replace("_", "-"): place for place, end in enumerate(alts)}
    texts = {f"{name}{end}".replace("_", "-"): text for end, text in alts.items()}
    found = []
    for stem in sorted(figures, key=lambda one: (order.get(one.replace("_", "-"), len(order)), one)):
        rest = stem[len(name) :].strip("-_")
        general = alts.get("") or f"Figure of the result {name}."
        found.append(
            picture(run, stem, texts.get(stem.replace("_", "-")) or (f"{general} Here: {rest}." if rest else general))
        )
    return found
