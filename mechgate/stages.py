"""Stages of a run: what is in the run folder is reused while everything it depends on is unchanged."""

import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mechgate.errors import DataError, StorageError
from mechgate.provenance import atomic_path, source_hash, stable_hash, write_text


class Stages:
    """Files of a run folder, each made by one stage. Beside every file stands the hash of what it was made from:
    the stage's inputs and mechgate's own source. A stage that was cut short left no such hash, and is redone."""

    def __init__(self, folder: str | Path, say: Callable[[str], None] = print):
        self.folder, self.say = Path(folder), say
        self.seconds: dict[str, float] = {}
        self._code = source_hash()

    def file(self, title: str, name: str, inputs: Any, make: Callable[[Path], Any]) -> Path:
        """The file `name`, made by `make(path)` unless it is there and made from the same `inputs`."""
        path, key = self.folder / name, stable_hash([self._code, inputs])
        mark = self.folder / ".made-from" / name.replace("/", "_")
        if path.exists() and mark.is_file() and mark.read_text(encoding="utf-8") == key:
            self.say(f"{title}: reused {path}")
            return path
        self.say(f"{title} ...")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            mark.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot write {path}", got=error.strerror or str(error), do="choose a folder that you may write to"
            ) from error
        started = time.monotonic()
        make(path)
        self.seconds[name] = round(time.monotonic() - started, 1)
        write_text(mark, key)
        return path

    def table(
        self, title: str, name: str, inputs: Any, make: Callable[[], pd.DataFrame], *, texts: Sequence[str] = ()
    ) -> pd.DataFrame:
        """A CSV table by the same rule. An empty cell is NaN in a column of numbers, and the empty text elsewhere.

        Columns named in `texts` (names, ids) come back as text, also where every cell of them looks like a number.

        Raises `DataError` if the kept file is damaged.
        """

        def write(path: Path) -> None:
            with atomic_path(path) as temporary:
                # All texts quoted: a reply may hold a bare carriage return, which would end an unquoted row.
                make().to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC)

        path = self.file(title, name, inputs, write)
        try:
            # Floats come back exactly (pandas since 3.1), and texts such as "NA" as they are.
            table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(texts, "str"))
            words = table.select_dtypes(exclude="number").columns
            return table.assign(**{name: table[name].fillna("") for name in words})
        except (ValueError, UnicodeDecodeError) as error:
            raise DataError(
                f"the kept table {path} is damaged", got=" ".join(str(error).split()), do="delete it and run again"
            ) from error


def preregister(folder: Path, plan: dict[str, Any]) -> str:
    """Write `plan` to prereg.yaml with its hash, which is returned; call it before the test split is read.

    If tables were measured under another plan (`rows*.csv`, or a table in a folder of the run's), that plan is kept as
    prereg-<hash>.yaml: see `plan_changed`.
    """
    digest = stable_hash(plan)
    text = yaml.safe_dump({**plan, "sha256": digest}, sort_keys=False, allow_unicode=True, width=110)
    path = folder / "prereg.yaml"
    old = path.read_text(encoding="utf-8") if path.exists() else None
    if old not in (None, text) and [*folder.glob("rows*.csv"), *folder.glob("*/*.csv")]:
        write_text(folder / f"prereg-{stable_hash(old)[:8]}.yaml", str(old))
    if old != text:
        write_text(path, text)
    return digest


def plan_changed(folder: Path) -> bool:
    """Whether the plan was changed after something had been measured under an earlier one."""
    return bool(list(folder.glob("prereg-*.yaml")))
