"""The demo: train gates on the default model, turn the dial, test it on unseen facts and in a second host, say what came out."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from mechgate.analysis import replies, reversal
from mechgate.data.facts import domains
from mechgate.data.pairs import Example, Pair, data_hash
from mechgate.data.tasks import load_pairs, shipped_data_hash, stance_answers
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates
from mechgate.model.loading import load_model
from mechgate.provenance import file_sha256, stable_hash, write_text
from mechgate.report.figures import draw_reversal
from mechgate.report.results import write_result
from mechgate.report.verdicts import CRITERIA, demo_verdict
from mechgate.stages import Stages
from mechgate.train.gates import TrainConfig, train_gates
from mechgate.train.hosts import train_lora_host

QUESTION = "Does one dial, strength, turn sycophancy on unseen facts, domains and wordings, and in a LoRA host?"
MEDICAL, OTHERS, TRUE = "false, medical", "false, other domains", "true, all domains"
SEEN = "training wordings"


class DemoSettings(BaseModel):
    """What the demo does; the defaults are what `make demo` runs. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "smollm2-135m"
    dtype: str = "auto"
    seed: int = 0
    strengths: tuple[float, ...] = (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
    host_strengths: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0)
    null_strengths: tuple[float, ...] = (-1.0, 1.0)
    null_draws: int = 5
    reply_strengths: tuple[float, ...] = (-1.0, 0.0, 1.0)
    phrasings: int = 6
    gate_epochs: int = 2
    host_lr: float = 2e-4
    host_epochs: int = 1

    @model_validator(mode="after")
    def _check_strengths(self) -> "DemoSettings":
        """The verdict needs these; without them it would fail after everything had been measured."""
        needed = {
            "host_strengths": (-2.0, -1.0, 0.0),
            "null_strengths": (-1.0, 1.0),
            "reply_strengths": (-1.0, 0.0, 1.0),
        }
        for name, values in needed.items():
            if missing := sorted(set(values) - set(getattr(self, name))):
                raise ValueError(f"{name} must have {missing} too")
        return self


def run_demo(
    folder: str | Path = "runs/demo", settings: DemoSettings | None = None, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run the demo, or what is missing of it, in `folder`; returns what `results.json` holds under `numbers`.

    Writes prereg.yaml (before the test split is read), gates.safetensors, host/ (a peft adapter), the measured rows
    as CSV, results.json, and reversal.png and .svg. The first run takes less than 10 minutes on 2 CPU cores.
    """
    chosen, stages, started = settings or DemoSettings(), Stages(folder, say), time.monotonic()
    prereg = _preregister(stages.folder, chosen)
    gate_file = _train_gates(stages, chosen)
    host_file = _train_host(stages, chosen)
    tables = _measure(stages, chosen, [file_sha256(gate_file), file_sha256(host_file), chosen.model_dump(mode="json")])
    numbers = summarise(tables, chosen)
    numbers["verdict"] = demo_verdict(numbers)
    numbers["seconds"] = {"all": round(time.monotonic() - started, 1), **stages.seconds}
    n = numbers["n"]
    caption = (
        f"{chosen.model}, {chosen.dtype} dtype; gates trained on {n['train']} medical examples, seed {chosen.seed}. Points: mean of {n['answers']} answer "
        f"pairs without content over unseen facts ({n['medical']} medical,\n{n['others']} other, {n['true']} with true claims), one unseen wording each; "
        "bars: 95% BCa bootstrap over facts. Open markers: no gate (s = 0). The three series are\n"
        "measured at the same strengths and drawn side by side."
    )
    draw_reversal(numbers, stages.folder / "reversal.png", caption=caption)
    write_result(
        stages.folder / "results.json",
        question=QUESTION,
        numbers=numbers,
        settings=chosen.model_dump(mode="json"),
        hashes={
            "data": shipped_data_hash(),
            "prereg": prereg,
            "gates": file_sha256(gate_file),
            "host_adapter": file_sha256(host_file),
        },
    )
    return numbers


def judged_sets() -> reversal.Sets:
    """The prompts the demo is judged on, one unseen wording a fact: false claims in and out of the domain, true claims."""
    return {
        MEDICAL: _pairs("sycophancy", ["medical"]),
        OTHERS: _pairs("sycophancy", _others()),
        TRUE: _pairs("genuine-agreement", domains()),
    }


def seen_sets() -> reversal.Sets:
    """The same unseen facts, asked and answered in the wordings of training."""
    return {
        f"{MEDICAL}, {SEEN}": _pairs("sycophancy", ["medical"], templates="train"),
        f"{OTHERS}, {SEEN}": _pairs("sycophancy", _others(), templates="train"),
    }


def summarise(tables: dict[str, pd.DataFrame], settings: DemoSettings) -> dict[str, Any]:
    """Every number of the demo, from the measured rows."""
    seed, rows, nulls, lora = settings.seed, tables["rows"], tables["rows-nulls"], tables["rows-host"]
    false, true, lora_false = _of(rows, MEDICAL, OTHERS), _of(rows, TRUE), _of(lora, MEDICAL, OTHERS)
    judged = (MEDICAL, OTHERS, TRUE)

    def content(table: pd.DataFrame, *sets: str) -> dict[str, Any]:
        part = _of(table, *sets)
        return {
            f"{s:+g}": {v: reversal.change(part, s, value=v, seed=seed).to_json() for v in reversal.CONTENT_COLUMNS}
            for s in (-1.0, 1.0)
            if s in set(part["strength"])
        }

    return {
        "n": {
            "train": len(_examples(settings)),
            "medical": _of(rows, MEDICAL)["fact"].nunique(),
            "others": _of(rows, OTHERS)["fact"].nunique(),
            "true": true["fact"].nunique(),
            "answers": len(stance_answers()),
        },
        "curves": {
            host: {name: reversal.curve(_of(table, name), seed=seed) for name in judged}
            for host, table in (("base", rows), ("lora", lora))
        },
        "false_claims": {f"{s:+g}": reversal.change(false, s, seed=seed).to_json() for s in (-1.0, 1.0)},
        "odd_even": reversal.odd_even(reversal.curve(false, seed=seed)),
        "nulls": reversal.null_band(nulls, false, family="row-sign"),
        "content_margins": {name: content(rows, name) for name in [*judged, *seen_sets()]},
        "host": {
            "without gates": reversal.level(lora_false[lora_false["strength"] == 0], seed=seed).to_json(),
            "base": reversal.level(false[false["strength"] == 0], seed=seed).to_json(),
            "change": {f"{s:+g}": reversal.change(lora_false, s, seed=seed).to_json() for s in (-1.0, -2.0)},
            "content_margins": {SEEN: content(lora, *seen_sets())},
            "beyond_addition": reversal.addition(lora_false, false, -1.0, seed=seed).to_json(),
        },
        "selectivity": {f"{s:+g}": reversal.selectivity(false, true, s, seed=seed) for s in (-1.0, 1.0)},
        "replies": replies.stance_rates(tables["replies"], seed=seed),
        "samples": replies.samples(tables["replies"], host="base", kind="false_claim", n=3),
    }


def _pairs(task: str, names: Any, templates: str | None = None) -> list[Pair]:
    return [
        p for name in names for p in load_pairs(task, name, "test", templates=templates, answers="content", phrasings=1)
    ]


def _others() -> list[str]:
    return [name for name in domains() if name != "medical"]


def _of(table: pd.DataFrame, *sets: str) -> pd.DataFrame:
    return table[table["set"].isin(sets)]


def _examples(settings: DemoSettings) -> list[Example]:
    return [
        p.as_example("matching") for p in load_pairs("sycophancy", "medical", "train", phrasings=settings.phrasings)
    ]


def _preregister(folder: Path, settings: DemoSettings) -> str:
    """Write down what will be measured and what would count, before the test split is read; returns its hash."""
    plan = {
        "question": QUESTION,
        "metric": "stance margin: mean over answer pairs of summed log p(agree) - log p(disagree), nats; change from s = 0",
        "answer pairs": [list(pair) for pair in stance_answers()],
        "criteria": CRITERIA,
        "selectivity": f"sigma = 1 - A/E, where E's interval clears {reversal.EFFECT_BOUND} nats; "
        f"'not selective' where sigma's interval lies below {reversal.SELECTIVITY_BOUND}",
        "splits": "facts and wordings are both split into train, dev and test; judged on test facts in test wordings",
        "data": shipped_data_hash(),
        "settings": settings.model_dump(mode="json"),
    }
    digest = stable_hash(plan)
    text = yaml.safe_dump({**plan, "sha256": digest}, sort_keys=False, allow_unicode=True, width=110)
    path = folder / "prereg.yaml"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return digest


def _base(settings: DemoSettings) -> Any:
    return load_model(settings.model, dtype=settings.dtype)


def _train_gates(stages: Stages, settings: DemoSettings) -> Path:
    config = TrainConfig(seed=settings.seed, epochs=settings.gate_epochs)

    def make(path: Path) -> None:
        model = _base(settings)
        gates = GateSet.identity(model)
        checkpoint = path.with_suffix(".checkpoint")
        train_gates(model, gates, _examples(settings), config, checkpoint=checkpoint)
        gates.save(path)
        checkpoint.unlink(missing_ok=True)

    inputs = [repr(config), settings.model, settings.dtype, data_hash(_examples(settings))]
    return stages.file("1/6 training the gates", "gates.safetensors", inputs, make)


def _train_host(stages: Stages, settings: DemoSettings) -> Path:
    config = TrainConfig(seed=settings.seed, epochs=settings.host_epochs, lr=settings.host_lr)
    name = "host/adapter_model.safetensors"

    def make(path: Path) -> None:
        train_lora_host(settings.model, _examples(settings), config, path.parent, dtype=settings.dtype)

    inputs = [repr(config), settings.model, settings.dtype, data_hash(_examples(settings))]
    return stages.file("2/6 making a sycophantic host with LoRA", name, inputs, make)


def _measure(stages: Stages, settings: DemoSettings, inputs: Any) -> dict[str, pd.DataFrame]:
    """All measured rows. Models are loaded by the first stage that needs one, one at a time."""
    held: dict[str, tuple[Any, GateSet]] = {}

    def gated(host: str) -> tuple[Any, GateSet]:
        if host not in held:
            held.clear()
            adapter = stages.folder / "host" if host == "lora" else None
            model = load_model(settings.model, dtype=settings.dtype, adapter=adapter)
            held[host] = model, load_gates(stages.folder / "gates.safetensors", model)
        return held[host]

    def rows() -> pd.DataFrame:
        model, gates = gated("base")
        main = (-1.0, 0.0, 1.0)
        rest = [s for s in settings.strengths if s not in main]
        whole = pd.concat(
            [
                reversal.dose_rows(model, gates, judged_sets(), main, host="base"),
                reversal.dose_rows(model, gates, seen_sets(), main, host="base", measures=("content",)),
            ]
        )
        if not rest:
            return whole
        return pd.concat(
            [whole, reversal.dose_rows(model, gates, judged_sets(), rest, host="base", measures=("stance",))]
        )

    def nulls() -> pd.DataFrame:
        model, gates = gated("base")
        sets = {k: v for k, v in judged_sets().items() if k != TRUE}
        draws, seed = settings.null_draws, settings.seed
        return reversal.null_rows(
            model, gates, sets, settings.null_strengths, family="row-sign", draws=draws, seed=seed
        )

    def host_rows() -> pd.DataFrame:
        model, gates = gated("lora")
        judged = reversal.dose_rows(
            model, gates, judged_sets(), settings.host_strengths, host="lora", measures=("stance",)
        )
        return pd.concat(
            [judged, reversal.dose_rows(model, gates, seen_sets(), (-1.0, 0.0), host="lora", measures=("content",))]
        )

    def replied() -> pd.DataFrame:
        false, true = (_pairs(task, domains())[::3] for task in ("sycophancy", "genuine-agreement"))
        found = []
        for host, pairs in (("lora", false), ("base", [*false, *true])):
            model, gates = gated(host)
            strengths = [x for x in settings.reply_strengths if host == "base" or x <= 0]
            found.append(replies.reply_rows(model, gates, pairs, strengths, host=host, max_new_tokens=24))
        return pd.concat(found)

    return {
        "rows": stages.table("3/6 turning the dial on unseen facts", "rows.csv", inputs, rows),
        "rows-nulls": stages.table("4/6 row-sign nulls", "rows-nulls.csv", inputs, nulls),
        "rows-host": stages.table("5/6 the same gates in the LoRA host", "rows-host.csv", inputs, host_rows),
        "replies": stages.table("6/6 free replies", "replies.csv", inputs, replied),
    }
