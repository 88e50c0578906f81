"""Training state on disk: parameters, optimiser and record in one safetensors file, whole or absent."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mechgate.errors import StorageError, TrainingError
from mechgate.provenance import atomic_path

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def write(path: Path, identity: str, parameters: dict[str, Any], optimizer: torch.optim.Optimizer, record: Any) -> None:
    """Write the state after a finished step. `identity` says what run it belongs to."""
    tensors = {f"parameter/{name}": value.detach().cpu().contiguous() for name, value in parameters.items()}
    for name, parameter in parameters.items():
        for moment in _MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment].detach().cpu().contiguous()
    lists = {key: getattr(record, key) for key in ("loss", "grad_norm", "gate_activity", "parts", "seconds")}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"identity": identity, "record": json.dumps(lists)})
        except SafetensorError as error:
            raise StorageError(f"cannot write the checkpoint {path}", got=str(error), do="free some space") from error


def restore(
    path: Path, identity: str, parameters: dict[str, Any], optimizer: torch.optim.Optimizer, record: Any
) -> None:
    """Continue from `path` if it exists. Raises `TrainingError` for a damaged file or one of another run."""
    if not path.exists():
        return
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                raise TrainingError(
                    f"the checkpoint {path} belongs to another run (other settings, data or model)",
                    do="delete it, or name another file",
                )
            lists = json.loads(metadata["record"])
            lists.setdefault("parts", {"imitate": list(lists["loss"])})  # imitation was all there was to record
            found = {
                name: {kind: file.get_tensor(f"{kind}/{name}") for kind in ("parameter", *_MOMENTS)}
                for name in parameters
            }
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(
            f"the checkpoint {path} is damaged", got=str(error)[:200], do="delete it and start again"
        ) from error
    with torch.no_grad():  # only now, so that a damaged file changes nothing
        for name, parameter in parameters.items():
            parameter.copy_(found[name]["parameter"])
            optimizer.state[parameter] = {m: found[name][m].to(parameter.device) for m in _MOMENTS}
    for key, value in lists.items():
        setattr(record, key, value)
