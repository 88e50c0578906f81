"""Hosts: models made to misbehave by something other than gates, a peft LoRA adapter."""

import contextlib
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from mechgate.data.pairs import Example
from mechgate.errors import InputError, ModelError, StorageError
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import check_gate_path
from mechgate.model.devices import choose_device, choose_dtype
from mechgate.model.loading import boot, describe, load_hf, load_model
from mechgate.provenance import check_writable, provenance, write_json
from mechgate.seeding import stream_seed
from mechgate.train.confined import confined_adapter
from mechgate.train.gates import train_gates
from mechgate.train.loop import TrainConfig, TrainRecord, train

SEVEN_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RECORD_FILE = "mechgate.json"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The adapter's form; the paper's: rank 32, alpha 64, rank-stabilised, on all seven projections.

    `heads` (layer, head) confines it to these heads' own slices of W_Q and W_O, which must then be its targets: keys and
    values are shared by several heads under grouped queries. See `mechgate.train.confined`.
    """

    rank: int = 32
    alpha: int = 64
    rslora: bool = True
    targets: tuple[str, ...] = SEVEN_PROJECTIONS
    heads: tuple[tuple[int, int], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields; `heads` only where there are any, so that checkpoints from before are still this run's."""
        return {name: value for name, value in asdict(self).items() if name != "heads" or value is not None}


def train_lora_host(
    source: str,
    examples: list[Example],
    config: TrainConfig,
    folder: str | Path,
    *,
    lora: LoraSettings | None = None,
    dtype: str = "auto",
    device: str = "auto",
    checkpoint: str | Path | None = None,
) -> TrainRecord:
    """Fine-tune a LoRA adapter on `examples` and save it as an ordinary peft folder, for `load_model(adapter=...)`.

    `source`, `dtype` and `device` are as for `load_model`. The folder also gets `mechgate.json` (base model, data hash,
    settings, losses, versions). It is written whole or not at all, and replaces nothing that is no adapter. Raises
    `ModelError` if a target matches nothing, `InputError` for another objective than imitation, `TrainingError` and `DataError` as `train_gates` does.
    """
    if config.objective != "imitate" or config.sparsity:
        raise InputError(
            "a LoRA host has no strength and no gates on heads, so that it can only imitate",
            got=f"objective {config.objective!r}, sparsity {config.sparsity:g}",
            do="leave both out",
        )
    settings = lora or LoraSettings()
    if settings.rank < 1 or settings.alpha <= 0 or not settings.targets:
        raise InputError(
            "LoRA settings cannot be used", got=settings.to_json(), allowed="rank >= 1, alpha > 0, some targets"
        )
    target = Path(folder)
    if target.exists() and not (target / "adapter_config.json").is_file() and not _empty(target):
        raise StorageError("there is something else than an adapter", got=str(target), do="choose another folder")
    check_writable(target)
    place = choose_device(device)
    adapted, tokenizer, name = _adapted(source, settings, config.seed, choose_dtype(dtype, place))
    model = boot(adapted.base_model.model.to(place), name=name, tokenizer=tokenizer)
    weights = _lora_weights(model.original_model)
    for parameter in weights.values():
        parameter.requires_grad_(True)
    heads = None if settings.heads is None else confined_adapter(model, weights, settings.heads)
    with heads or contextlib.nullcontext():
        record = train(
            model,
            weights,
            examples,
            config,
            label="training the LoRA host",
            checkpoint=_path(checkpoint),
            settings=settings.to_json(),
        )
    base = {**describe(model), "fingerprint": None}
    # Booting a bridge renames the modules, and peft would save those names: the weights go into a fresh copy.
    fresh, _, _ = _adapted(source, settings, config.seed, choose_dtype(dtype, place))
    with torch.no_grad():
        for key, parameter in _lora_weights(fresh.base_model.model).items():
            parameter.copy_(weights[key])
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".adapter-") as name_of_part:
        part = Path(name_of_part) / "adapter"
        try:
            fresh.save_pretrained(part)
            saved = {"base": base, "lora": settings.to_json(), "training": record.to_json(), "provenance": provenance()}
            write_json(part / RECORD_FILE, saved)
            shutil.rmtree(target, ignore_errors=True)
            part.replace(target)
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"the adapter could not be written to {target}", got=getattr(error, "strerror", None) or str(error)
            ) from error
    return record


def train_gated_host(
    source: str,
    examples: list[Example],
    config: TrainConfig,
    path: str | Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    checkpoint: str | Path | None = None,
) -> TrainRecord:
    """Train gates on `examples` and save them as a host: a gate file that is put on the base model at strength +1.

    `source`, `dtype` and `device` are as for `load_model`. Raises what that, `train_gates` and `GateSet.save` raise.
    """
    check_gate_path(path)
    model = load_model(source, dtype=dtype, device=device)
    gates = GateSet.identity(model, seed=config.seed)
    record = train_gates(model, gates, examples, config, checkpoint=checkpoint)
    gates.save(path)
    return record


def _adapted(source: str, settings: LoraSettings, seed: int, dtype: Any) -> tuple[Any, Any, str]:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ModelError("LoRA hosts need peft", do="pip install 'mechgate[lora]'") from error
    hf, tokenizer, name = load_hf(source, dtype)
    ends = tuple(f".{name}" for name, _ in hf.named_modules())
    if lost := [target for target in settings.targets if not any(end.endswith(f".{target}") for end in ends)]:
        raise ModelError(  # peft itself complains only if no target at all matches
            "some of the adapter's targets are not in the model", got=lost, do="name its linear layers as targets"
        )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        use_rslora=settings.rslora,
        target_modules=list(settings.targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):  # peft draws the first factor from torch's global generator
        torch.manual_seed(stream_seed(seed, "lora start"))
        try:
            return get_peft_model(hf, config), tokenizer, name
        except ValueError as error:
            raise ModelError(
                "the adapter's targets do not fit the model",
                got=str(error)[:300],
                do="name its linear layers as targets",
            ) from error


def _lora_weights(hf: Any) -> dict[str, torch.nn.Parameter]:
    return {n.replace("_original_component.", ""): p for n, p in hf.named_parameters() if "lora_" in n}


def _empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _path(path: str | Path | None) -> Path | None:
    return Path(path) if path is not None else None
