"""Commands on sparse features."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import AsJson, Dtype, Model, Quiet, Seed, be_quiet, say
from mechgate.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Train SAEs on the residual stream of text that the model writes itself.")


@app.command("train")
def sae_train(
    folder: Annotated[Path, typer.Argument(help="Folder of the SAEs and of the states they learn from.")] = Path(
        "runs/saes"
    ),
    layer: Annotated[str, typer.Option(help="Layers, with commas (the middle one if not given).")] = "",
    tokens: Annotated[int, typer.Option(help="Tokens to learn from.")] = 400_000,
    latents: Annotated[int, typer.Option(help="Latents of each SAE.")] = 4608,
    k: Annotated[int, typer.Option("-k", help="Active latents a token (aimed at, with jumprelu).")] = 32,
    architecture: Annotated[str, typer.Option(help="topk or jumprelu.")] = "topk",
    epochs: Annotated[int, typer.Option(help="Passes over the tokens.")] = 2,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas: one SAE each.")] = "0",
    frozen: Annotated[bool, typer.Option("--frozen", help="Also one with a random decoder, as a control.")] = False,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    quiet: Quiet = False,
) -> None:
    """Train SAEs; states are made once and kept, and an interrupted run goes on. Prints each one's quality.

    Example: mechgate sae train runs/saes --layer 15 --seeds 0,1 --frozen
    """
    from mechgate.model.loading import load_model
    from mechgate.train.sae import train_saes

    be_quiet(quiet)
    try:
        layers = [int(part) for part in layer.split(",")] if layer else []
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError as error:
        raise InputError("layers and seeds are whole numbers, with commas", got=f"{layer!r}, {seeds!r}") from error
    found = train_saes(
        load_model(model, dtype=dtype),
        folder,
        layers=layers,
        seeds=numbers,
        frozen=frozen,
        tokens=tokens,
        d_sae=latents,
        k=k,
        architecture=architecture,
        epochs=epochs,
        lr=lr,
        say=(lambda text: None) if quiet else say,
    )
    for path, quality in found.items():
        print(
            f"{path}: FVU {quality.fvu:.3f}, L0 {quality.l0:.1f}, dead {quality.dead:.1%} ({quality.n} held-out tokens)"
        )


def features(
    gates: Annotated[list[Path], typer.Argument(help="Gate files: seeds of one recipe.")],
    sae: Annotated[list[str], typer.Option("--sae", help="SAE folder, or release:sae_id; the first is claimed about.")],
    layer: Annotated[int | None, typer.Option(help="Layer of SAEs that do not say theirs.")] = None,
    control: Annotated[list[Path] | None, typer.Option(help="Control gate files.")] = None,
    host: Annotated[list[Path] | None, typer.Option(help="Adapter folders: hosts that misbehave.")] = None,
    folder: Annotated[Path, typer.Option(help="Run folder; what is in it is reused.")] = Path("runs/features"),
    strength: Annotated[float, typer.Option("--strength", "-s", help="Strength of the gates.")] = -1.0,
    position: Annotated[str, typer.Option(help="Tokens that latents are read at: last, mean or claim.")] = "last",
    facts: Annotated[int | None, typer.Option(help="Test facts (all if not given).")] = None,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do the gates move the sparse features that mark unsafe prompts? Overlap beside its nulls, contexts, ablation.

    Example: mechgate features gates.safetensors --sae runs/saes/layer-15-seed-0 --sae runs/saes/layer-15-seed-1
    """
    from mechgate.errors import check_choice
    from mechgate.gates.storage import load_gates
    from mechgate.measure.activations import POSITIONS
    from mechgate.measure.features import load_sae
    from mechgate.model.loading import load_model
    from mechgate.report.features import draw_features, write_latents
    from mechgate.representation.features import FeatureSettings, told
    from mechgate.representation.features import features as measured

    be_quiet(quiet)
    check_choice("position", position, POSITIONS[:3])
    if facts is not None and facts < 32:
        raise InputError("feature overlap needs at least 32 facts", got=facts)
    files = [*gates, *(control or [])]
    if len({path.stem for path in files}) != len(files):
        raise InputError("gate files need different names", got=[path.name for path in files], do="rename a file")
    loaded = load_model(model, dtype=dtype)
    numbers = measured(
        loaded,
        {path.stem: load_gates(path, loaded) for path in gates},
        {Path(source).name: load_sae(source, loaded, layer=layer) for source in sae},
        hosts={path.name: load_model(model, dtype=dtype, adapter=path) for path in host or []},
        controls={path.stem: load_gates(path, loaded) for path in control or []},
        settings=FeatureSettings(strength=strength, position=position, facts=facts, seed=seed),
        folder=folder,
        say=(lambda text: None) if quiet or as_json else say,
    )
    if as_json:
        print(json.dumps(numbers, indent=1))
        return
    print("\n".join(told(numbers)))
    caption = f"{model}; {numbers['facts']} test facts; s = {strength:+g}; {len(gates)} gate set(s)."
    draw_features(numbers, folder / "features.png", caption=caption)
    write_latents(numbers, folder / "latents.html")
    print(f"{folder}/features.png (.svg), latents.html")
