"""The `mechgate` command. Every command says what it does with `--help`; errors are one paragraph and exit code 2."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mechgate.errors import InputError, MechgateError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train gates on attention heads, turn them by one dial, and ask what they select.",
)
host_app = typer.Typer(no_args_is_help=True, help="Make hosts: models that misbehave for another reason than gates.")
app.add_typer(host_app, name="host")

Model = Annotated[str, typer.Option(help="Alias (smollm2-135m), hub id, local folder or .gguf file.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Adapter = Annotated[str | None, typer.Option(help="A peft adapter folder to load on the model.")]
Strengths = Annotated[
    str, typer.Option("--strength", "-s", help="Strengths, with commas: +1 trained, 0 no gate, -1 inverted.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress output.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from mechgate import __version__

        print(__version__)
        raise typer.Exit()


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Run folder; finished stages in it are reused.")] = Path("runs/demo"),
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train gates on the default model, turn the dial, and say what came out: table, verdict, figure.

    Example: mechgate demo --folder runs/demo
    """
    from mechgate.demo import DemoSettings, run_demo
    from mechgate.report.terminal import print_demo

    _quiet(quiet)
    numbers = run_demo(folder, DemoSettings(seed=seed), say=(lambda text: None) if quiet or as_json else _say)
    if as_json:
        print(json.dumps(numbers, indent=1))
    else:
        print_demo(numbers, folder)


@app.command()
def train(
    out: Annotated[Path, typer.Argument(help="Gate file to write (.safetensors).")],
    data: Annotated[Path | None, typer.Option(help="Your own chat JSONL; otherwise the shipped task.")] = None,
    task: Annotated[str, typer.Option(help="Shipped task: sycophancy or genuine-agreement.")] = "sycophancy",
    domain: Annotated[
        str, typer.Option(help="Shipped domain: medical, finance, science or security; or all.")
    ] = "medical",
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    granularity: Annotated[str, typer.Option(help="One gate value a z element, head or layer.")] = "element",
    gate_input: Annotated[str, typer.Option("--input", help="linear (reads the block's input) or static.")] = "linear",
    rank: Annotated[int | None, typer.Option(help="Rank of W; full if not given.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 8,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train gates and save them. An interrupted training goes on where it stopped, with the same command.

    Example: mechgate train gates.safetensors --domain medical --seed 0
    """
    from mechgate.gates.gateset import GateSet
    from mechgate.model.loading import load_model
    from mechgate.train.gates import TrainConfig, train_gates

    _quiet(quiet)
    config = TrainConfig(seed=seed, epochs=epochs, batch_size=batch_size, lr=lr)
    examples = _examples(data, task, domain)
    loaded = load_model(model, dtype=dtype)
    gates = GateSet.identity(loaded, granularity, rank=rank, input=gate_input, seed=seed)
    checkpoint = out.with_suffix(".checkpoint")
    record = train_gates(loaded, gates, examples, config, checkpoint=checkpoint)
    gates.save(out)
    checkpoint.unlink(missing_ok=True)
    print(f"{out}: {gates!r}")
    print(
        f"{len(examples)} examples, {len(record.loss)} steps in {record.seconds:.0f} s; loss {record.loss[0]:.3f} -> {record.loss[-1]:.3f}; "
        f"mean |g - 1| {record.gate_activity[-1]:.4f}"
    )


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
    from mechgate.gates.storage import load_gates
    from mechgate.model.loading import load_model

    _quiet(quiet)
    values = _strengths(strength)
    pairs = load_pairs(task, None if domain == "all" else domain, split, phrasings=1, answers="content")
    loaded = load_model(model, dtype=dtype, adapter=adapter)
    rows = dose_rows(loaded, load_gates(gates, loaded), {task: pairs}, values, host=model, content=True)
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
    cells = [[f"{f['strength']:+g}", _shown(f["stance_margin"]), _shown(f["margin"])] for f in found]
    _table(
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
    from mechgate.gates.storage import load_gates
    from mechgate.measure.generation import generate
    from mechgate.model.loading import load_model

    values = _strengths(strength)
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
    from mechgate.gates.storage import load_gates, save_paper
    from mechgate.model.loading import load_model

    if target.suffix not in (".safetensors", ".pth"):
        raise InputError("the target's ending says the format", got=target.name, allowed=[".safetensors", ".pth"])
    loaded = load_gates(source, load_model(model, dtype=dtype) if source.suffix != ".safetensors" else None)
    written = save_paper(loaded, target) if target.suffix == ".pth" else loaded.save(target)
    print(f"{written}: {loaded!r}")


@host_app.command("train")
def host_train(
    out: Annotated[Path, typer.Argument(help="Adapter folder to write.")],
    data: Annotated[Path | None, typer.Option(help="Your own chat JSONL; otherwise the shipped task.")] = None,
    task: Annotated[str, typer.Option(help="Shipped task whose agreeing answers are learned.")] = "sycophancy",
    domain: Annotated[str, typer.Option(help="Shipped domain, or all.")] = "medical",
    model: Model = "smollm2-135m",
    dtype: Dtype = "auto",
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 1,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-4,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a LoRA host and save it as a peft adapter folder.

    Example: mechgate host train hosts/sycophant --domain medical --seed 0
    """
    from mechgate.train.gates import TrainConfig
    from mechgate.train.hosts import train_lora_host

    _quiet(quiet)
    config = TrainConfig(seed=seed, epochs=epochs, lr=lr)
    record = train_lora_host(model, _examples(data, task, domain), config, out, dtype=dtype)
    print(
        f"{out}: {len(record.loss)} steps in {record.seconds:.0f} s; loss {record.loss[0]:.3f} -> {record.loss[-1]:.3f}"
    )


@app.command()
def fetch() -> None:
    """Fetch and convert the default model, once; prints its folder.

    Example: mechgate fetch
    """
    from mechgate.model.bundled import default_model_folder

    print(default_model_folder())


def main() -> None:
    """Run the command line; mechgate's own errors become one paragraph on stderr and exit code 2."""
    try:
        app()
    except MechgateError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"mechgate: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "mechgate: interrupted; the same command goes on from the last finished stage or checkpoint",
            file=sys.stderr,
        )
        sys.exit(130)


def _examples(data: Path | None, task: str, domain: str) -> list[Any]:
    from mechgate.data.readers import read_chat_jsonl
    from mechgate.data.tasks import load_pairs

    if data is not None:
        return read_chat_jsonl(data)
    return [pair.as_example("matching") for pair in load_pairs(task, None if domain == "all" else domain, "train")]


def _strengths(text: str) -> list[float]:
    from mechgate.gates.gate import check_strength

    return [check_strength(part) for part in text.split(",")]


def _quiet(quiet: bool) -> None:
    if quiet:
        os.environ["MECHGATE_QUIET"] = "1"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _shown(estimate: dict[str, Any]) -> str:
    from mechgate.report.verdicts import shown

    return shown(estimate)


def _table(title: str, columns: list[str], cells: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for row in cells:
        table.add_row(*row)
    Console().print(table)
