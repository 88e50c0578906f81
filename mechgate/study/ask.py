"""The questions that a study can ask, each by the call that its script and its command make."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mechgate.causality.heads import HeadSettings
from mechgate.causality.maps import CausalSettings
from mechgate.errors import InputError
from mechgate.gates.storage import read_header
from mechgate.measure.features import load_sae
from mechgate.provenance import file_sha256, folder_sha256
from mechgate.questions import (
    minimal_heads,
    objectives,
    patching,
    persona_alignment,
    sae_overlap,
    selectivity,
    similarity,
    token_roles,
    transfer,
    which_heads,
)
from mechgate.questions.place import Place
from mechgate.referee import SelectivitySettings
from mechgate.representation.features import FeatureSettings
from mechgate.representation.persona_tables import PersonaSettings
from mechgate.representation.settings import SimilaritySettings
from mechgate.study.config import StudyConfig
from mechgate.train.controls import LEARNED, VARIANT
from mechgate.train.variants import VARIANTS


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What questions are asked about: gate files, control gate files by task, adapter folders of hosts by name; `load` gives the
    model (with an adapter, if it is given one)."""

    config: StudyConfig
    folder: Path
    gates: list[Path]
    controls: dict[str, list[Path]]
    hosts: dict[str, Path]
    load: Callable[..., Any]

    @property
    def model(self) -> Any:
        """The study's model."""
        return self.load(self.config)

    def host_models(self) -> dict[str, Any]:
        """The hosts, loaded."""
        return {name: self.load(self.config, path) for name, path in self.hosts.items()}

    def hashes(self) -> dict[str, Any]:
        """Hashes of every file that goes in: a question is asked again when one changes."""
        files = [*self.gates, *(path for group in self.controls.values() for path in group)]
        more = sorted((self.folder / "gates").glob("*.safetensors"))
        saes = sorted(path.parent for path in (self.folder / "saes").glob("*/sae_weights.safetensors"))
        found: dict[str, Any] = {path.name: file_sha256(path) for path in {*files, *more}}
        return found | {path.name: folder_sha256(path) for path in [*self.hosts.values(), *saes]}

    def settings_of(self, name: str) -> Any:
        """The question's settings: its defaults in a study, and over them what the config says. Raises `InputError` for
        wrong ones."""
        kind, usual = SETTINGS[name]
        if kind is SelectivitySettings and name == "selectivity" and self.config.preset == "quick":
            usual = SelectivitySettings.quick().model_dump()
        try:
            return kind(**{**usual, **self.config.settings.get(name, {})})
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
            raise InputError(f"the study's settings of {name} cannot be used", got=found) from error


SETTINGS: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "selectivity": (SelectivitySettings, {}),
    "objectives": (SelectivitySettings, objectives.LEAN),
    "transfer": (transfer.TransferSettings, {}),
    "token-roles": (token_roles.RoleSettings, {}),
    "which_heads": (which_heads.AtlasSettings, {"facts": 18, "phrasings": 1}),
    "similarity": (SimilaritySettings, {}),
    "persona_alignment": (PersonaSettings, {}),
    "sae_overlap": (FeatureSettings, {}),
    "patching": (CausalSettings, {}),
    "minimal_heads": (HeadSettings, {}),
}
"""Of each question, its kind of settings and what a study asks otherwise than the question's own defaults."""


def gate_file(folder: Path, task: str, seed: int, domain: str | None) -> Path:
    """The file in gates/ that was trained on a task and domain (None: all) under a seed. Raises `InputError` unless there is
    exactly one."""
    files = []
    for path in sorted((folder / "gates").glob(f"{task}-{seed}-*.safetensors")):
        history = read_header(path)["history"]
        if history.get("task") == task and history.get("domain", "all") == (domain or "all"):
            files.append(path)
    if len(files) != 1:
        raise InputError(
            f"the run folder should hold one gate file of {task}, seed {seed}, domain {domain or 'all'}",
            got=[path.name for path in files] or "none",
            do="run the study again in a folder of its own",
        )
    return files[0]


def _selectivity(inputs: Inputs, place: Place) -> None:
    selectivity.judged(
        inputs.model,
        inputs.gates,
        hosts=inputs.host_models(),
        controls=inputs.controls,
        settings=inputs.settings_of("selectivity"),
        place=place,
    )


def _objectives(inputs: Inputs, place: Place) -> None:
    config = inputs.config
    tasks = {name: LEARNED if name == "imitate" else f"{VARIANT}{name}" for name in config.variants}
    variants = {
        name: [gate_file(inputs.folder, task, seed, config.where) for seed in config.seeds]
        for name, task in tasks.items()
    }
    what = {name: VARIANTS[name].what for name in variants}
    settings = inputs.settings_of("objectives")
    objectives.objectives(inputs.model, variants, what=what, settings=settings, place=place)


def _transfer(inputs: Inputs, place: Place) -> None:
    config = inputs.config
    seeds = config.seeds[: config.transfer_seeds]
    gates = {
        domain: [gate_file(inputs.folder, LEARNED, seed, domain) for seed in seeds]
        for domain in config.transfer_domains
    }
    transfer.transfer(inputs.model, gates, settings=inputs.settings_of("transfer"), place=place)


def _roles(inputs: Inputs, place: Place) -> None:
    settings = inputs.settings_of("token-roles")
    token_roles.token_roles(inputs.model, inputs.gates, settings=settings, place=place)


def _atlas(inputs: Inputs, place: Place) -> None:
    settings = inputs.settings_of("which_heads")
    one_each = {task: paths[:1] for task, paths in inputs.controls.items()}
    which_heads.which_heads(inputs.model, inputs.gates, one_each, settings=settings, place=place)


def _similarity(inputs: Inputs, place: Place) -> None:
    settings = inputs.settings_of("similarity")
    similarity.compared(inputs.model, inputs.gates, controls=inputs.controls, settings=settings, place=place)


def _personas(inputs: Inputs, place: Place) -> None:
    persona_alignment.persona_alignment(
        inputs.model,
        inputs.gates,
        hosts=inputs.host_models(),
        controls=[path for paths in inputs.controls.values() for path in paths[:1]],
        settings=inputs.settings_of("persona_alignment"),
        place=place,
    )


def _features(inputs: Inputs, place: Place) -> None:
    folders = sorted(path.parent for path in (inputs.folder / "saes").glob("*/sae_weights.safetensors"))
    # The first is the one that claims are about: the one with seed 0, then the second seed, then the frozen one.
    folders.sort(key=lambda path: ("frozen" in path.name, path.name))
    model = inputs.model
    sae_overlap.sae_overlap(
        model,
        inputs.gates,
        {path.name: load_sae(path, model) for path in folders},
        hosts=inputs.host_models(),
        controls=[path for paths in inputs.controls.values() for path in paths[:1]],
        settings=inputs.settings_of("sae_overlap"),
        place=place,
    )


def _patching(inputs: Inputs, place: Place) -> None:
    settings = inputs.settings_of("patching")
    patching.patching(inputs.model, inputs.gates, hosts=inputs.host_models(), settings=settings, place=place)


def _heads(inputs: Inputs, place: Place) -> None:
    minimal_heads.minimal_heads(inputs.model, inputs.gates, settings=inputs.settings_of("minimal_heads"), place=place)


ASK: dict[str, Callable[[Inputs, Place], None]] = {
    "selectivity": _selectivity,
    "objectives": _objectives,
    "transfer": _transfer,
    "token-roles": _roles,
    "which_heads": _atlas,
    "similarity": _similarity,
    "persona_alignment": _personas,
    "sae_overlap": _features,
    "patching": _patching,
    "minimal_heads": _heads,
}
"""By name, in the order of `config.QUESTIONS`; each writes results/NAME.json and its figures."""
