"""Running an evaluation: hosts one after another, measure by measure, every finished table kept."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechgate.analysis.behaviour import Arm, Material, collect
from mechgate.data.facts import domains, split_facts
from mechgate.data.tasks import dataset_hashes
from mechgate.errors import GateFileError, InputError, StorageError
from mechgate.evaluation.design import EvalSettings, material
from mechgate.evaluation.summary import table_of
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates
from mechgate.measure.knowledge import STATEMENTS, knowledge
from mechgate.model.bundled import ALIASES
from mechgate.model.loading import load_model
from mechgate.provenance import file_sha256, folder_sha256, stable_hash
from mechgate.report.results import write_result
from mechgate.stages import Stages

QUESTION = "What do the gates change that they should, and what that they should leave alone?"
BASE = "base"
TEXTS = (
    "id",
    "fact",
    "domain",
    "set",
    "seed",
    "host",
    "prompt",
    "reply",
    "stance",
)  # never numbers, whatever they look like


def run_eval(
    folder: str | Path, settings: EvalSettings, say: Callable[[str], None] = print, stock: Material | None = None
) -> dict[str, Any]:
    """Measure base, gated model and hosts, or what is missing of that, in `folder`; returns the result's numbers.

    Writes one CSV a host and measure (a row a prompt and arm, with its id) and results.json. `settings.hosts` are peft
    adapter folders, or gate files that are put on at strength +1 (a gated host). `stock` replaces the shipped material
    by the user's own. An interrupted run goes on at the first table that is missing.
    """
    stages, started = Stages(folder, say), time.monotonic()
    chosen = stock or material(settings)
    sources = {BASE: None, **_named_hosts(settings.hosts)}
    gates = _named_gates(settings.gates)
    measured_with = [settings.model, _model_hash(settings.model), settings.dtype]
    turned = [settings.strengths, [[name, file_sha256(path)] for name, path in gates.items()]] if gates else []
    made_of = _hashes(chosen)
    host_hashes = {name: _source_hash(source) for name, source in sources.items()}
    held: dict[str, Any] = {}

    def model(host: str) -> Any:
        if host not in held:
            for other in [name for name in held if name != BASE]:
                del held[other]
            held[host] = _load(settings, sources[host])
        return held[host]

    # Half of a pass's time, and read only where lines on facts are split by what the base model knows.
    on_facts = set(settings.measures) & {"stance", "answers", "replies"}
    known = _known(stages, settings, [*measured_with, settings.split], lambda: model(BASE)[0]) if on_facts else None
    rows: dict[str, list[pd.DataFrame]] = {name: [] for name in settings.measures}
    steps = [(host, name) for host in sources for name in settings.measures]
    for number, (host, name) in enumerate(steps, 1):

        def measured(host: str = host, name: str = name) -> pd.DataFrame:
            bridge, own = model(host)
            arms = _arms(settings, gates, bridge)
            base = model(BASE)[0] if host != BASE and name == "neutral" else None
            with own.attached(bridge, 1.0) if own is not None else contextlib.nullcontext():
                return collect(name, bridge, chosen, arms, base=base).assign(host=host)

        title = f"{number}/{len(steps)} {host}: {name}"
        made_from = [measured_with, turned, made_of[name], host_hashes[host]]
        rows[name].append(stages.table(title, f"{host}-{name}.csv", made_from, measured, texts=TEXTS))
    whole = {name: pd.concat(tables, ignore_index=True) for name, tables in rows.items()}
    numbers = {
        "table": table_of(
            whole, set() if known is None else set(known.loc[known["known"] == 1, "fact"]), seed=settings.seed
        ),
        "knowledge": None if known is None else _knowledge_numbers(known),
        "seconds": {"all": round(time.monotonic() - started, 1), **stages.seconds},
    }
    write_result(
        stages.folder / "results.json",
        question=QUESTION,
        numbers=numbers,
        settings=settings.model_dump(mode="json"),
        hashes={
            "data": dataset_hashes() if stock is None else made_of,
            "model": measured_with[1],
            "gates": {str(path): file_sha256(path) for path in gates.values()},
            "hosts": host_hashes,
        },
    )
    return numbers


def _named_hosts(paths: tuple[str, ...]) -> dict[str, Path]:
    named = {Path(path).stem if Path(path).suffix else Path(path).name: Path(path) for path in paths}
    if len(named) != len(paths) or BASE in named:
        raise InputError("hosts need different names", got=list(paths), do="rename a folder; 'base' is taken")
    for path in named.values():
        if not (path.is_file() or (path / "adapter_config.json").is_file()):
            raise StorageError(
                "no host there", got=str(path), allowed="a peft adapter's folder, or a gate file", do="check the path"
            )
    return named


def _named_gates(paths: tuple[str, ...]) -> dict[str, Path]:
    """Gate files by the name that tells one seed's rows from another's."""
    named = {Path(path).stem: Path(path) for path in paths}
    if len(named) != len(paths):
        raise InputError("gate files need different names", got=list(paths), do="rename a file, or name it once")
    if lost := [str(path) for path in named.values() if not path.is_file()]:
        raise GateFileError("no gate file there", got=lost, do="train one with mechgate train, or check the path")
    return named


def _hashes(chosen: Material) -> dict[str, str]:
    """What each measure reads of the material, as a hash: the user's own stock may change under the same settings."""
    parts = asdict(chosen)
    parts = {
        name: parts[name]
        for name in ("stance", "stance_answers", "answers", "items", "texts", "replies", "max_new_tokens")
    }
    parts["stance"] = [parts["stance"], parts.pop("stance_answers")]
    parts["replies"] = [parts["replies"], parts.pop("max_new_tokens")]
    parts["neutral"] = parts.pop("texts")
    return {name: stable_hash([part, chosen.system]) for name, part in parts.items()}


def _load(settings: EvalSettings, source: Path | None) -> tuple[Any, GateSet | None]:
    """A host's bridge, and the gates that make it one (None for the base and for adapters)."""
    if source is None or source.is_dir():
        return load_model(settings.model, dtype=settings.dtype, adapter=source), None
    bridge = load_model(settings.model, dtype=settings.dtype)
    return bridge, load_gates(source, bridge)


def _arms(settings: EvalSettings, named: dict[str, Path], bridge: Any) -> list[Arm]:
    """No gates once, since strength 0 is the same for all; then every gate set at every other strength."""
    sets = [(name, load_gates(path, bridge)) for name, path in named.items()]
    turned = [s for s in settings.strengths if s != 0]
    return [Arm(), *(Arm(gates=gates, strength=s, seed=name) for s in turned for name, gates in sets)]


def _known(stages: Stages, settings: EvalSettings, inputs: Any, model: Callable[[], Any]) -> pd.DataFrame:
    """What the base model itself knows: a row a fact, statement and phrasing would be long; a row a fact is kept."""

    def measured() -> pd.DataFrame:
        facts = [fact for domain in domains() for fact in split_facts(domain, settings.split)]
        found = knowledge(model(), facts)
        table = pd.DataFrame({"fact": found.fact_ids, "domain": [fact.domain for fact in facts]})
        table["known"], table["dev"], table["report"] = found.known().astype(int), found.margin("dev"), found.margin()
        table["reliability"] = found.split_half()
        mean = found.log_odds[:, :, ~found.dev].mean(axis=2)
        return table.assign(**{name: mean[:, k] for k, name in enumerate(STATEMENTS)})

    return stages.table("base: knowledge", "base-knowledge.csv", inputs, measured, texts=TEXTS)


def _knowledge_numbers(known: pd.DataFrame) -> dict[str, Any]:
    better = (known["report"] > 0).to_numpy()
    return {
        "facts": len(known),
        "known by dev phrasings": int(known["known"].sum()),
        "of these, known by the others": int(better[known["known"] == 1].sum()),
        "known by the others": int(better.sum()),
        "mean margin, others (nats)": float(known["report"].mean()),
        "split-half reliability": float(known["reliability"].iloc[0]),
        "correlation of dev and others": float(np.corrcoef(known["dev"], known["report"])[0, 1]),
    }


def _source_hash(source: Path | None) -> str | None:
    if source is None:
        return None
    return folder_sha256(source) if source.is_dir() else file_sha256(source)


def _model_hash(name: str) -> str | None:
    """The hash of a model that is the user's own files, which may change under their name; None for other models."""
    path = Path(name).expanduser()
    return _source_hash(path) if name not in ALIASES and path.exists() else None
