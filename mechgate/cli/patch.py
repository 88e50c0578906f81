"""`mechgate patch`: causal maps of heads."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import AsJson, Dtype, Model, Quiet, Seed, be_quiet, say
from mechgate.errors import InputError


def patch(
    gates: Annotated[list[Path], typer.Argument(help="Gate files: seeds of one recipe.")],
    host: Annotated[list[Path] | None, typer.Option(help="Adapter folders: hosts that misbehave.")] = None,
    folder: Annotated[Path, typer.Option(help="Run folder; what is in it is reused.")] = Path("runs/patching"),
    strength: Annotated[float, typer.Option("--strength", "-s", help="Of the gates that are knocked out.")] = -1.0,
    facts: Annotated[int, typer.Option(help="Test facts, at least 4.")] = 16,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Which heads carry the stance towards a claim, and do the gates act on them? Exact patches, both ways.

    Example: mechgate patch gates.safetensors --host hosts/lora-sycophancy-medical-0
    """
    from mechgate.causality.maps import CausalSettings, causal_maps, told
    from mechgate.gates.storage import load_gates
    from mechgate.model.loading import load_model
    from mechgate.report.causal import draw_causal

    be_quiet(quiet)
    if facts < 4:
        raise InputError("patching needs at least 4 facts", got=facts)
    for kind, paths in (("gate files", [path.stem for path in gates]), ("hosts", [path.name for path in host or []])):
        if len(set(paths)) != len(paths):
            raise InputError(f"{kind} need different names", got=paths, do="rename one")
    loaded = load_model(model, dtype=dtype)
    numbers = causal_maps(
        loaded,
        {path.stem: load_gates(path, loaded) for path in gates},
        hosts={path.name: load_model(model, dtype=dtype, adapter=path) for path in host or []},
        settings=CausalSettings(strength=strength, facts=facts, seed=seed),
        folder=folder,
        say=(lambda text: None) if quiet or as_json else say,
    )
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    print("\n".join(told(numbers)))
    caption = f"{model}; means over {numbers['facts']} test facts; {len(gates)} gate set(s), s = {strength:+g}."
    draw_causal(numbers, folder / "patching.png", caption=caption)
    print(f"{folder}/patching.png (.svg)")
