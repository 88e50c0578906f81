"""The HTML report of a study: one file that holds everything, for a browser, a phone, paper and a referee."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mechgate.errors import DataError, InputError
from mechgate.provenance import write_text
from mechgate.report.comparison import compared, settings_table
from mechgate.report.paper import bibtex, methods
from mechgate.report.pictures import Picture, owners, picture, pictures, stems
from mechgate.report.results import read_result
from mechgate.report.sections import ordered, section
from mechgate.report.sections.parts import Section
from mechgate.report.sections.verdict import answers, primary_table
from mechgate.report.tidy import tidy

KEY_FIGURES = ("selectivity-plane", "selectivity-dose")
"""The figures of the first screen."""
_FILES = {"config.yaml": "resolved config", "prereg.yaml": "plan", "log.txt": "log", "provenance.json": "provenance"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder as the report reads it: results and their sections by name, in the page's order, and the config."""

    path: Path
    results: Mapping[str, dict[str, Any]]
    sections: Mapping[str, Section]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def settings(self) -> dict[str, Any]:
        """The config, and each result's own settings under its name."""
        return {**self.config, **{f"{name} (result)": one["settings"] for name, one in self.results.items()}}


def read_run(path: str | Path) -> Run:
    """Read a run folder: `results/NAME.json` and `config.yaml`.

    Raises `InputError` for a folder without results, `DataError` (naming the file) for a damaged result or config.
    """
    folder = Path(path)
    files = {one.stem: one for one in (folder / "results").glob("*.json")}
    if not files:
        raise InputError(
            f"{folder} is no run with results",
            got="no results/*.json in it",
            do="name the folder that a study was run in",
        )
    names = ordered(list(files))
    results = {name: _result(files[name]) for name in names}
    sections = {name: section(name, results[name], files[name]) for name in names}
    return Run(path=folder, results=results, sections=sections, config=_config(folder / "config.yaml"))


def write_report(run: Path, compare: Path | None = None) -> Path:
    """Write RUN/report.html, one self-contained file without scripts and requests, and return its path.

    First the verdict of `results/selectivity.json` with its key figures and table; then a section a result; with `compare`,
    another run's primary numbers and settings beside this one's. Texts from results (questions, names, model replies) are
    escaped. The page depends on the folder alone: the same folder gives the same file. Each result's numbers are written as
    tidy data too, to `figures/NAME.csv`.

    Raises `InputError` for a folder without results, `DataError` for a damaged file, `StorageError` if it cannot be written.
    """
    ours = read_run(run)
    theirs = read_run(compare) if compare is not None else None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("report.html").render(**_page(ours, theirs))
    for name, result in ours.results.items():
        write_text(ours.path / "figures" / f"{name}.csv", tidy(result["numbers"]))
    return write_text(ours.path / "report.html", text)


def _page(ours: Run, theirs: Run | None) -> dict[str, Any]:
    """What the template is filled with."""
    figures = stems(ours.path)
    owned = owners(figures, ours.sections)
    drawn = {
        name: pictures(ours.path, [f for f, owner in owned.items() if owner == name], name, one.alts)
        for name, one in ours.sections.items()
    }
    judged = ours.results.get("selectivity")
    made = [one["provenance"].get("created", "") for one in ours.results.values()]
    return {
        "run": ours,
        "answers": answers(judged["numbers"]) if judged else [],
        "primary": primary_table(judged["numbers"]) if judged else None,
        "key_figures": [p for p in drawn.get("selectivity", []) if p.name in KEY_FIGURES],
        "pictures": {name: [p for p in found if p.name not in KEY_FIGURES] for name, found in drawn.items()},
        "other_pictures": _others(ours.path, [f for f in figures if f not in owned]),
        "made": max(made)[:10],
        "files": {name: what for name, what in _FILES.items() if (ours.path / name).is_file()},
        "config": yaml.safe_dump(dict(ours.config), sort_keys=False, allow_unicode=True) if ours.config else "",
        "methods": methods(ours.results, ours.config),
        "bibtex": bibtex(ours.results),
        "comparison": _comparison(ours, theirs) if theirs else None,
    }


def _comparison(ours: Run, theirs: Run) -> dict[str, Any]:
    names = (ours.name, theirs.name) if ours.name != theirs.name else ("this run", "the other run")
    return {
        "name": theirs.name,
        "tables": compared(ours.sections, theirs.sections, names),
        "settings": settings_table(ours.settings, theirs.settings, names),
    }


def _others(run: Path, names: list[str]) -> list[Picture]:
    return [picture(run, name, f"Figure {name}, of no result in this run.") for name in names]


def _result(path: Path) -> dict[str, Any]:
    found = read_result(path)
    kinds = {"question": str, "settings": dict, "provenance": dict}
    if wrong := [key for key, kind in kinds.items() if not isinstance(found.get(key), kind)] + [
        key for key in ("numbers",) if key not in found
    ]:
        raise DataError(f"the result {path} is damaged", got=f"no {', '.join(wrong)}")
    return found


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"the config {path} cannot be read", got=str(error)) from error
    if not isinstance(found, dict):
        raise DataError(f"the config {path} is no mapping of settings", got=type(found).__name__)
    return found
