"""What a study asks, of which model and which gates: the file that a user writes."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mechgate.data.facts import domains
from mechgate.errors import DataError, InputError
from mechgate.train.controls import CONTROL_TASKS
from mechgate.train.recipes import RECIPES
from mechgate.train.variants import VARIANTS

QUESTIONS = (
    "selectivity",
    "objectives",
    "transfer",
    "token-roles",
    "which_heads",
    "similarity",
    "persona_alignment",
    "sae_overlap",
    "patching",
    "minimal_heads",
)
"""Every question that a study can ask, in the order in which it asks and reports them."""
PRESETS = ("quick", "full")


class StudyConfig(BaseModel):
    """A study. Unknown keys are errors.

    `gates`: your own gate files (seeds of one recipe; ours, or the paper's gating_params.pth); without any, gates are
    trained, one set a seed, on the shipped false claims of `domain` or on `data`, your own chat JSONL. `controls`: tasks to
    train control gates on, and gate files. `hosts`: recipes of `mechgate host recipes` (LoRA), and adapter folders.
    `settings`: by question, what differs from its own defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "smollm2-135m"
    dtype: str = "auto"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    domain: str = "medical"
    gates: tuple[Path, ...] = ()
    data: Path | None = None
    examples: int = Field(default=180, ge=8)
    epochs: int = Field(default=2, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    controls: tuple[str, ...] = CONTROL_TASKS
    hosts: tuple[str, ...] = ("lora-sycophancy",)
    variants: tuple[str, ...] = ("imitate", "contrastive", "two-sided", "two-sided-truth", "sparse")
    transfer_domains: tuple[str, ...] = tuple(domains())
    transfer_seeds: int = Field(default=3, ge=1)
    sae_layer: int | None = Field(default=None, ge=0)
    sae_tokens: int = Field(default=400_000, ge=1_000)
    questions: tuple[str, ...] = QUESTIONS
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    preset: Literal["quick", "full"] = "full"

    @classmethod
    def of_preset(cls, preset: str, **values: Any) -> "StudyConfig":
        """The config of a preset, with `values` in place of its own. Raises `InputError` for an unknown preset."""
        if preset not in PRESETS:
            raise InputError("there is no such preset", got=repr(preset), allowed=list(PRESETS))
        usual: dict[str, Any] = {"preset": preset}
        if preset == "quick":
            usual |= dict(
                seeds=(0,),
                controls=("genuine-agreement", "sign-off"),
                hosts=(),
                questions=("selectivity", "similarity", "patching"),
                settings={
                    "similarity": {"layers": [20], "positions": ["last"], "questions": 0, "strengths": [-1.0]},
                    "patching": {"facts": 8},
                },
            )
        return checked({**usual, **values})

    @field_validator("questions")
    @classmethod
    def _questions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in QUESTIONS]:
            raise ValueError(f"unknown questions {unknown}; allowed: {', '.join(QUESTIONS)}")
        if not value:
            raise ValueError("a study asks at least one question")
        return tuple(name for name in QUESTIONS if name in value)

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or min(value) < 0:
            raise ValueError("seeds must be different whole numbers, at least one, none below 0")
        return value

    @field_validator("domain")
    @classmethod
    def _domain(cls, value: str) -> str:
        if value != "all" and value not in domains():
            raise ValueError(f"unknown domain {value!r}; allowed: all, {', '.join(domains())}")
        return value

    @field_validator("variants")
    @classmethod
    def _variants(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in VARIANTS]:
            raise ValueError(f"unknown variants {unknown}; allowed: {', '.join(VARIANTS)}")
        return value

    @field_validator("transfer_domains")
    @classmethod
    def _transfer(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in domains()]:
            raise ValueError(f"unknown domains {unknown}; allowed: {', '.join(domains())}")
        if len(set(value)) < 2:
            raise ValueError("transfer needs two domains")
        return value

    @model_validator(mode="after")
    def _fit(self) -> "StudyConfig":
        if self.gates and self.data is not None:
            raise ValueError("give gates or the data to train them on, not both")
        if unknown := sorted(set(self.settings) - set(QUESTIONS)):
            raise ValueError(f"settings of unknown questions {unknown}; allowed: {', '.join(QUESTIONS)}")
        for name in self.controls:
            if name not in CONTROL_TASKS and not Path(name).exists():
                raise ValueError(
                    f"control {name!r} is neither a task ({', '.join(CONTROL_TASKS)}) nor a gate file that exists"
                )
        for name in self.hosts:
            recipe = RECIPES.get(name)
            if (recipe is None or recipe.kind != "lora") and not (Path(name) / "adapter_config.json").is_file():
                lora = ", ".join(n for n, r in RECIPES.items() if r.kind == "lora")
                raise ValueError(f"host {name!r} is neither a LoRA recipe ({lora}) nor an adapter folder")
        for path in (*self.gates, *([self.data] if self.data else [])):
            if not path.is_file():
                raise ValueError(f"{path} does not exist")
        return self

    @property
    def where(self) -> str | None:
        """The domain as data functions take it: None is all."""
        return None if self.domain == "all" else self.domain

    def dump(self) -> dict[str, Any]:
        """Plain values, as written to config.yaml."""
        return self.model_dump(mode="json")


def checked(values: dict[str, Any]) -> StudyConfig:
    """A `StudyConfig`, with what pydantic finds as one `InputError`."""
    try:
        return StudyConfig(**values)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the study'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise InputError("the study's config cannot be used", got=found, do="see mechgate study init") from error


def load_config(path: str | Path, **values: Any) -> StudyConfig:
    """Read a study's YAML; relative paths in it are taken from its folder. `preset` in it fills what it leaves out.

    Raises `DataError` for a file that is no YAML mapping, `InputError` for values that cannot be used.
    """
    file = Path(path)
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(
            f"the study {file} cannot be read",
            got=" ".join(str(error).split())[:300],
            do="mechgate study init writes one",
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"{file} is no study", got=type(found).__name__, allowed="a mapping of names to values")
    for name in ("gates", "controls", "hosts"):
        if isinstance(found.get(name), list):
            found[name] = [_beside(file, entry) for entry in found[name]]
    for name in ("data", "model"):
        if isinstance(found.get(name), str):
            found[name] = _beside(file, found[name])
    return StudyConfig.of_preset(found.pop("preset", "full"), **{**found, **values})


def _beside(file: Path, entry: Any) -> Any:
    """An entry that names something beside the config file, as a path to it; others as they are."""
    if isinstance(entry, str) and entry and not Path(entry).is_absolute() and (file.parent / entry).exists():
        return str(file.parent / entry)
    return entry


TEMPLATE = """\
# A study: mechgate study check study.yaml, then mechgate study run study.yaml. Everything is optional.
preset: {preset}            # quick: one seed, three questions; full: five seeds, all of them. What stands here wins over it.
model: smollm2-135m     # alias, hub id, local folder or .gguf
# dtype: auto           # float32, bfloat16, float16
# seeds: [0, 1, 2]      # of training: each draws facts, wordings and order anew
# domain: medical       # of the shipped false claims: {domains}, or all

# Your own gates (seeds of one recipe): .safetensors of mechgate, or the paper's gating_params.pth
# gates: [my-gates-0.safetensors, my-gates-1.safetensors]
# ... or your own chat JSONL to train them on
# data: my-chats.jsonl
# examples: 180
# epochs: 2
# lr: 0.001

# Gates trained alike on something else ({controls}), and your own control gate files
# controls: [genuine-agreement, sign-off]
# Hosts that misbehave: recipes (mechgate host recipes) and your own LoRA adapter folders
# hosts: [lora-sycophancy]

# questions: [{questions}]
# settings:             # by question, what differs from its defaults
#   selectivity: {{facts: 60}}
#   similarity: {{layers: [10, 20], questions: 0}}
#   patching: {{facts: 16}}
"""


def template(preset: str = "full") -> str:
    """A commented study.yaml."""
    return TEMPLATE.format(
        preset=preset, domains=", ".join(domains()), controls=", ".join(CONTROL_TASKS), questions=", ".join(QUESTIONS)
    )
