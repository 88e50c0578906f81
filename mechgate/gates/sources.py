"""Gate sets as callers give them: objects or files, one or several, with names or without; and what stands for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates

Source = GateSet | str | Path


def named_sources(sources: Any, task: str = "gates") -> dict[str, Source]:
    """Gate sets by name: the mapping's, the files' stems, or the task with a number.

    Raises `InputError` for two of one name.
    """
    if isinstance(sources, Mapping):
        return {str(name): source for name, source in sources.items()}
    listed: list[Source] = (
        list(sources) if isinstance(sources, Sequence) and not isinstance(sources, str) else [sources]
    )
    names = [f"{task}-{i}" if isinstance(s, GateSet) else Path(s).stem for i, s in enumerate(listed)]
    if len(set(names)) != len(names):
        raise InputError("gate sets need different names", got=names, do="rename a file, or name it once")
    return dict(zip(names, listed, strict=True))


def loaded(source: Source, model: Any) -> GateSet:
    """The gate set, read if it is a file. Raises what `load_gates` does, `ModelError` where it does not fit `model`."""
    if not isinstance(source, GateSet):
        return load_gates(source, model)
    source.check_fits(model)
    return source
