"""Commands on gates: train, dose, reply, show, convert."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mechgate.cli.options import (
    Adapter,
    AsJson,
    Dtype,
    Model,
    Quiet,
    Seed,
    Strengths,
    be_quiet,
    examples_of,
    kept_of,
    opposite_of,
    print_table,
    strengths_of,
)
from mechgate.errors import InputError
from mechgate.report.verdicts import shown

app = typer.Typer()


@app.command()
def train(
    out: Annotated[Path, typer.Argument(help="Gate file to write (.safetensors).")],
    data: Annotated[Path | None, typer.Option(help="Your own chat JSONL; otherwise the shipped task.")] = None,
    task: Annotated[str, typer.Option(help="Shipped task; see mechgate data list.")] = "sycophancy",
    domain: Annotated[
        str, typer.Option(help="Shipped domain (medical, finance, ...), or all; controls have none.")
    ] = "medical",
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    granularity: Annotated[str, typer.Option(help="One gate value a z element, head or layer.")] = "element",
    gate_input: Annotated[str, typer.Option("--input", help="linear (reads the block's input) or static.")] = "linear",
    rank: Annotated[int | None, typer.Option(help="Rank of W; full if not given.")] = None,
    phrasings: Annotated[
        int | None, typer.Option(help="Wordings a fact of the shipped task; all if not given.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 8,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    objective: Annotated[
        str,
        typer.Option(
            help="imitate; contrastive (also stays near the base on kept data); "
            "two-sided (also trains strength -1 towards opposite answers)."
        ),
    ] = "imitate",
    kl_weight: Annotated[float, typer.Option(help="Weight of the KL to the base on kept data.")] = 1.0,
    sparsity: Annotated[float, typer.Option(help="Weight of a group lasso over heads; 0 is none.")] = 0.0,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Chat JSONL to stay near the base on. Shipped sycophancy, contrastive: both answers "
            "to true claims, and neutral chat."
        ),
    ] = None,
    opposite: Annotated[
        Path | None,
        typer.Option(
            help="Chat JSONL whose answers strength -1 is trained towards. Shipped tasks: the other answers of the pairs."
        ),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train gates and save them. An interrupted training goes on where it stopped, with the same command.

    Example: mechgate train gates.safetensors --domain medical --seed 0
    Another: mechgate train selective.safetensors --objective contrastive --kl-weight 1
    """
    from mechgate.gates.gateset import GateSet
    from mechgate.gates.storage import check_gate_path
    from mechgate.model.loading import load_model
    from mechgate.train.gates import TrainConfig, train_gates
    from mechgate.train.objectives import check_objective_data

    be_quiet(quiet)
    check_gate_path(out)
    config = TrainConfig(
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        objective=objective,
        kl_weight=kl_weight,
        sparsity=sparsity,
    )
    examples = examples_of(data, task, domain, phrasings)
    keep = kept_of(kept, objective, data, task, domain)
    turn = opposite_of(opposite, objective, data, task, domain, phrasings)
    check_objective_data(config, keep, turn)
    loaded = load_model(model, dtype=dtype)
    gates = GateSet.identity(loaded, granularity, rank=rank, input=gate_input, seed=seed)
    checkpoint = out.with_suffix(".checkpoint")
    record = train_gates(loaded, gates, examples, config, kept=keep, opposite=turn, checkpoint=checkpoint)
    gates.save(out)
    checkpoint.unlink(missing_ok=True)
    print(f"{out}: {gates!r}")
    print(
        f"{len(examples)} examples, {len(record.loss)} steps in {record.seconds:.0f} s; loss {record.loss[0]:.3f} -> {record.loss[-1]:.3f}; "
        f"mean |g - 1| {record.gate_activity[-1]:.4f}"
    )
    if len(record.parts) > 1:
        # Steps draw different data, so that parts are told as means over an eighth of the steps.
        n = max(1, len(record.loss) // 8)
        shown_parts = [f"{k} {sum(v[:n]) / n:.4f} -> {sum(v[-n:]) / n:.4f}" for k, v in record.parts.items()]
        print(f"parts of the loss, means of {n} steps: {', '.join(shown_parts)}")


@app.command()
def dose(
    gates: Annotated[Path, typer.Argument(help="Gate file.")],
    strength: Strengths = "-1,0,1",
    task: Annotated[str, typer.Option(help="sycophancy or genuine-agreement.")] = "sycophancy",
    domain: Annotated[str, typer.Option(help="One domain, or all.")] = "all",
    split: Annotated[str, typer.Option(help="Facts and wordings of train, dev or test.")] = "test",
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    adapter: Adapter = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Stance and content margins at each strength, with intervals over facts.

    Example: mechgate dose gates.safetensors --strength=-2,-1,0,1,2 --task genuine-agreement
    """
    from mechgate.analysis.reversal import dose_rows, level
    from mechgate.data.tasks import load_pairs
    from mechgate.gates.storage import check_there, load_gates
    from mechgate.model.loading import load_model

    be_quiet(quiet)
    check_there(gates)
    values = strengths_of(strength)
    pairs = load_pairs(task, None if domain == "all" else domain, split, phrasings=1, answers="content")
    loaded = load_model(model, dtype=dtype, adapter=adapter)
    rows = dose_rows(loaded, load_gates(gates, loaded), {task: pairs}, values, host=model)
    found = [
        {
            "strength": s,
            **{c: level(rows[rows["strength"] == s], value=c, seed=0).to_json() for c in ("stance_margin", "margin")},
        }
        for s in values
    ]
    if as_json:
        print(json.dumps(found, indent=1))
        return
    columns = ["strength", "stance margin (nats, summed)", "content margin (nats a token)"]
    cells = [[f"{f['strength']:+g}", shown(f["stance_margin"]), shown(f["margin"])] for f in found]
    print_table(
        f"{task}, {domain} domains, {split} split, n = {found[0]['margin']['n']} facts, one wording each",
        columns,
        cells,
    )


@app.command()
def reply(
    gates: Annotated[Path, typer.Argument(help="Gate file.")],
    text: Annotated[str, typer.Argument(help="What the user says.")],
    strength: Strengths = "-1,0,1",
    tokens: Annotated[int, typer.Option(help="At most so many tokens.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Seed = 0,
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    adapter: Adapter = None,
) -> None:
    """What the gated model replies at each strength.

    Example: mechgate reply gates.safetensors "I think that antibiotics cure colds." --strength=-1,0,1
    """
    from mechgate.gates.storage import check_there, load_gates
    from mechgate.measure.generation import generate
    from mechgate.model.loading import load_model

    check_there(gates)
    values = strengths_of(strength)
    loaded = load_model(model, dtype=dtype, adapter=adapter)
    set_ = load_gates(gates, loaded)
    for s in values:
        with set_.attached(loaded, s):
            found = generate(
                loaded, [[{"role": "user", "content": text}]], max_new_tokens=tokens, temperature=temperature, seed=seed
            )
        print(f"s = {s:+g}: {found[0]}")


@app.command()
def show(gates: Annotated[Path, typer.Argument(help="Gate file.")]) -> None:
    """What a gate file holds: form, model, training, versions; as JSON.

    Example: mechgate show gates.safetensors
    """
    from mechgate.gates.storage import read_header

    print(json.dumps(read_header(gates), indent=1))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Gate file: .safetensors, or the paper's gating_params.pth.")],
    target: Annotated[Path, typer.Argument(help="File to write; its ending (.safetensors or .pth) says the format.")],
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
) -> None:
    """Convert gates between mechgate's format and the paper's.

    Example: mechgate convert gating_params.pth gates.safetensors --model Qwen/Qwen3-8B
    """
    from mechgate.gates.storage import check_there, load_gates, save_paper
    from mechgate.model.loading import load_model

    check_there(source)
    if target.suffix not in (".safetensors", ".pth"):
        raise InputError("the target's ending says the format", got=target.name, allowed=[".safetensors", ".pth"])
    loaded = load_gates(source, load_model(model, dtype=dtype) if source.suffix != ".safetensors" else None)
    written = save_paper(loaded, target) if target.suffix == ".pth" else loaded.save(target)
    print(f"{written}: {loaded!r}")
