"""Where the answer to a question goes, and what stands in front of its captions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechgate.gates.sources import loaded, named_sources
from mechgate.gates.storage import gates_hash
from mechgate.model.loading import fingerprint, model_info
from mechgate.report.results import write_result


@dataclass(frozen=True, kw_only=True)
class Place:
    """`tables`: a folder of what was measured, reused while it is unchanged. `results`: where NAME.json is written (None:
    in `tables`). `figures`: where pictures go (None: beside the results). `say` prints progress."""

    tables: Path
    results: Path | None = None
    figures: Path | None = None
    say: Callable[[str], None] = print

    def answer(
        self, name: str, *, question: str, numbers: dict[str, Any], settings: Any, hashes: dict[str, Any]
    ) -> Path:
        """Write NAME.json and return its path."""
        path = (self.results or self.tables) / f"{name}.json"
        return write_result(path, question=question, numbers=numbers, settings=settings, hashes=hashes)

    def picture(self, name: str) -> Path:
        """The path of NAME.png."""
        return (self.figures or self.results or self.tables) / f"{name}.png"


def model_words(model: Any) -> str:
    """A model's name and number format, as captions begin: "smollm2-135m, fp32"."""
    info = model_info(model)
    dtype = str(next(model.original_model.parameters()).dtype).removeprefix("torch.")
    short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}.get(dtype, dtype)
    return f"{Path(info.name).name}, {short}"


def gate_sets(sources: Any, model: Any) -> dict[str, Any]:
    """Gate sets by name, loaded. Raises what `named_sources` and `loaded` raise."""
    return {name: loaded(source, model) for name, source in named_sources(sources).items()}


def hashes_of(model: Any, *groups: dict[str, Any]) -> dict[str, Any]:
    """Hashes of a model and of gate sets by name, for a result file."""
    return {
        "model": fingerprint(model),
        "gates": {name: gates_hash(one) for group in groups for name, one in group.items()},
    }
