"""Gate files: one safetensors file with everything in its header, and the paper's `gating_params.pth`.

Both are read without executing anything that a file holds.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mechgate.errors import GateFileError, InputError, StorageError
from mechgate.gates.gate import check_strength
from mechgate.gates.gateset import GateSet
from mechgate.model.loading import describe
from mechgate.model.sites import Shape, shape_of
from mechgate.provenance import atomic_path, check_writable, versions

FORMAT_VERSION = 1
FORMULA = "z * (1 + strength * scale * tanh((W x + b) / 2))"
_HEADER = "mechgate"
_PAPER_SUFFIXES = (".pth", ".pt", ".bin")
_PAPER_KEY = re.compile(r"^model\.layers\.(\d+)\.self_attn\.gate_proj_myself\.(weight|bias)$")


def save_gates(gates: GateSet, path: str | Path) -> Path:
    """Write gates atomically to a `.safetensors` file: tensors `blocks.L.weight|bias|up|down`, fp32.

    Raises `GateFileError` for a name that `load_gates` would take for the paper's format.
    """
    if Path(path).suffix in _PAPER_SUFFIXES:
        raise GateFileError(
            "gates are written to a .safetensors file", got=str(path), do="use save_paper for gating_params.pth"
        )
    _check_plain(gates)
    header = {
        "format_version": FORMAT_VERSION,
        "formula": FORMULA,
        "reads": "blocks.L.attn.hook_in",
        "writes": "blocks.L.attn.hook_z",
        "shape": vars(gates.shape),
        "layers": list(gates.layers),
        "granularity": gates.granularity,
        "input": gates.input,
        "rank": gates.rank,
        "scale": gates.scale,
        "made_for": gates.made_for,
        "history": gates.history,
        "versions": versions(),
    }
    tensors = {_file_name(name): value.detach().cpu().contiguous() for name, value in gates.state_dict().items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_HEADER: json.dumps(header)})
        except SafetensorError as error:
            raise StorageError(
                f"cannot write {path}",
                got=str(error),
                do="free some space, or choose another folder; nothing was overwritten",
            ) from error
    return Path(path)


def check_gate_path(path: str | Path) -> None:
    """Raise `InputError` or `StorageError` unless gates can be saved there, before they are trained."""
    if Path(path).suffix != ".safetensors" or Path(path).is_dir():
        raise InputError("the gates' file must be named .safetensors and be no folder", got=str(path))
    check_writable(path)


def check_there(path: str | Path) -> Path:
    """The path, if there is a file; raises `GateFileError` if not. For whoever loads a model before the gates."""
    if not Path(path).is_file():
        raise GateFileError(
            "no gate file there", got=str(path), do="save one with gates.save(...) or train with mechgate train"
        )
    return Path(path)


def load_gates(path: str | Path, model: Any = None, *, check_weights: bool = True) -> GateSet:
    """Read gates from a mechgate file or from the paper's `gating_params.pth`.

    With `model`, they must fit it: same shape and, unless `check_weights=False`, same weights (fp32 and bf16 copies
    count as the same; so does a host that was made from that model by a LoRA adapter). The paper's file holds no
    dimensions of heads and no model, so it needs `model`. Raises `GateFileError` for a damaged, unsafe or foreign
    file, saying how it differs.
    """
    path = check_there(path)
    if path.suffix in _PAPER_SUFFIXES:
        return _load_paper(path, model)
    header, tensors = _read(path)
    gates = _build(header, tensors, path)
    if model is not None:
        _check_model(gates, model, check_weights)
        gates.to(next(model.original_model.parameters()).device)
    return gates


def read_header(path: str | Path) -> dict[str, Any]:
    """A gate file's header: what it was trained on, for which model, with which versions."""
    if Path(path).suffix in _PAPER_SUFFIXES and Path(path).is_file():
        raise GateFileError(
            "the paper's format has no header",
            got=str(path),
            do="convert it first: mechgate convert gating_params.pth gates.safetensors --model ...",
        )
    return _read(Path(path))[0]


def save_paper(gates: GateSet, path: str | Path) -> Path:
    """Write gates in the paper's format (`gating_params.pth`); only full-rank linear element gates on all layers fit it.

    The format has no strength: a `scale` of -1 is written as negated (W, b), any other than +-1 is refused.
    """
    _check_plain(gates)
    whole = gates.granularity == "element" and gates.input == "linear" and gates.rank is None
    if not whole or gates.layers != tuple(range(gates.shape.n_layers)) or abs(gates.scale) != 1:
        raise GateFileError(
            "the paper's format cannot hold these gates",
            got=repr(gates),
            allowed="full-rank linear element gates on all layers, scale +1 or -1",
            do="save them with gates.save(...)",
        )
    held = {
        f"model.layers.{layer}.self_attn.gate_proj_myself.{name}": getattr(gates.gate(layer), name).detach().cpu()
        * gates.scale
        for layer in gates.layers
        for name in ("weight", "bias")
    }
    with atomic_path(path) as temporary:
        try:
            torch.save(held, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise StorageError(
                f"cannot write {path}", got=str(error).splitlines()[0], do="free some space; nothing was overwritten"
            ) from error
    return Path(path)


def _check_plain(gates: GateSet) -> None:
    if type(gates) is not GateSet:
        raise GateFileError(
            "a gate file holds W and b, and these gates do not come from them",
            got=repr(gates),
            do="draw them again from the same gates, family, seed and neutral tokens",
        )


def _file_name(parameter: str) -> str:
    return parameter.replace("gates.", "blocks.", 1)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    check_there(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise GateFileError(
            f"{path} is damaged or is no safetensors file",
            got=str(error)[:200],
            do="save it again, or check the download",
        ) from error
    try:
        header = json.loads(metadata[_HEADER])
        version = header["format_version"]
    except (KeyError, TypeError, ValueError) as error:
        raise GateFileError(
            f"{path} is a safetensors file, but not one of gates", got=sorted(metadata) or "no header"
        ) from error
    if version != FORMAT_VERSION:
        raise GateFileError(
            f"{path} has another format version",
            got=version,
            allowed=FORMAT_VERSION,
            do="use the mechgate version that wrote it",
        )
    return header, tensors


def _build(header: dict[str, Any], tensors: dict[str, torch.Tensor], path: Path) -> GateSet:
    try:
        shape = Shape(**header["shape"])
        gates = GateSet(
            shape,
            layers=tuple(header["layers"]),
            granularity=header["granularity"],
            rank=header["rank"],
            input=header["input"],
            made_for=dict(header["made_for"]),
        )
        if outside := [layer for layer in gates.layers if not 0 <= layer < shape.n_layers]:
            raise ValueError(f"layers {outside} of {shape.n_layers}")
        gates.scale, gates.history = check_strength(header["scale"]), dict(header["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: sizes that torch cannot make
        raise GateFileError(f"{path} has a damaged header", got=f"{type(error).__name__}: {error}") from error
    _fill(gates, {name.replace("blocks.", "gates.", 1): value for name, value in tensors.items()}, path)
    return gates


def _fill(gates: GateSet, state: dict[str, torch.Tensor], path: Path) -> None:
    try:
        gates.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise GateFileError(
            f"{path} does not hold the tensors its gates need", got=" ".join(str(error).split())[:400]
        ) from error
    bad = [name for name, value in gates.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        raise GateFileError(f"{path} holds values that are not finite", got=bad[:3])


def _check_model(gates: GateSet, model: Any, check_weights: bool) -> None:
    here, made_for = describe(model), gates.made_for
    if differences := gates.shape.differences(shape_of(model)):
        raise GateFileError(
            f"the gates belong to {made_for.get('name')}, a model of another shape than {here['name']}",
            got="; ".join(differences),
            do="load the model they were trained for",
        )
    known = made_for.get("fingerprint")
    if check_weights and known and known not in (here["fingerprint"], here["base_fingerprint"]):
        raise GateFileError(
            f"the gates belong to {made_for.get('name')}, whose weights differ from those of {here['name']}",
            got=f"fingerprint {here['fingerprint'][:12]} against {known[:12]}",
            do="load the model they were trained for, or pass check_weights=False to load_gates to use them on this one",
        )


def _load_paper(path: Path, model: Any) -> GateSet:
    if model is None:
        raise GateFileError(
            "the paper's format does not say which model it is for", do="pass the model: load_gates(path, model)"
        )
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged and for unsafe pickles
        # Not torch's whole message, which says how to load the file unsafely.
        found = re.search(r"(?i)unsupported (?:global: )?(?:global|operand) \S+", str(error))
        raise GateFileError(
            f"{path} is damaged, or holds more than tensors; nothing in it was executed",
            got=found.group() if found else type(error).__name__,
            do="ask for a file written by torch.save of a dict of tensors",
        ) from error
    if not isinstance(held, dict) or not held:
        raise GateFileError(f"{path} is not the paper's format", got=type(held).__name__, allowed="a dict of tensors")
    state: dict[str, torch.Tensor] = {}
    for name, value in held.items():
        match = _PAPER_KEY.match(str(name))
        if match is None or not isinstance(value, torch.Tensor):
            raise GateFileError(
                f"{path} holds a key that the paper's format does not have",
                got=name,
                allowed="model.layers.{i}.self_attn.gate_proj_myself.weight and .bias",
            )
        state[f"gates.{int(match.group(1))}.{match.group(2)}"] = value.float()
    layers = tuple(sorted({int(name.split(".")[1]) for name in state}))
    if outside := [layer for layer in layers if layer >= shape_of(model).n_layers]:
        raise GateFileError(
            f"{path} has gates for layers that the model lacks",
            got=outside[:5],
            allowed=f"0 to {shape_of(model).n_layers - 1}",
        )
    gates = GateSet(shape_of(model), layers=layers, made_for=describe(model))
    _fill(gates, state, path)
    gates.history = {"read_from": path.name, "format": "gating_params.pth"}
    return gates.to(next(model.original_model.parameters()).device)


def gates_hash(gates: GateSet) -> str:
    """A sha256 over what gates do: form, scale and every parameter."""
    digest = hashlib.sha256(repr([gates.granularity, gates.input, gates.rank, gates.scale, gates.layers]).encode())
    for name, value in sorted(gates.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
