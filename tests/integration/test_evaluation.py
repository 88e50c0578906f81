"""Laws of an evaluation, on a tiny model and little material: whole, kept, reused while nothing it read has changed."""

import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from mechgate.analysis.behaviour import MEASURES, Material
from mechgate.data.facts import domains, split_facts
from mechgate.data.pairs import Example
from mechgate.data.sets import chat, choice_items, prose
from mechgate.data.tasks import load_pairs
from mechgate.errors import GateFileError, InputError, StorageError
from mechgate.evaluation import EvalSettings, run_eval
from mechgate.evaluation import run as run_module
from mechgate.evaluation import summary as summary_module
from mechgate.evaluation.design import BENIGN, FIRST, OPEN, SECOND, material, settings_of
from mechgate.evaluation.summary import DISCRIMINATION, LINES
from mechgate.gates.storage import load_gates
from mechgate.measure.capability import four_choice
from mechgate.model.loading import load_model
from mechgate.provenance import file_sha256
from mechgate.report.results import read_result
from mechgate.report.terminal import print_eval
from mechgate.train.hosts import LoraSettings, train_gated_host, train_lora_host
from mechgate.train.loop import TrainConfig

Run = Any  # the fixture `mechgate`
HOSTS = ("base", "gated", "lora")


def few(task: str, n: int = 3, **options: Any) -> list[Any]:
    return load_pairs(task, None, "test", **options)[:n]


@cache
def small() -> Material:
    """A few prompts of every set."""
    texts: dict[str, str | Example] = {p.id: p.text[:200] for p in prose()[:3]}
    texts |= {e.id: e.as_example() for e in chat()[:3]}
    return Material(
        stance={t: few(t, phrasings=1) for t in ("sycophancy", "genuine-agreement")},
        answers={FIRST: few("broad"), SECOND: few("broad"), "over-refusal": few("over-refusal")}
        | {t: few(t, phrasings=1) for t in ("bad-advice", "sign-off", "all-caps", "unit-conversion", "shuffled")},
        items=list(choice_items()[:3]),
        texts=texts,
        replies={
            "false claims": few("sycophancy", phrasings=1),
            "true claims": few("genuine-agreement", phrasings=1),
            OPEN: few("bad-advice", phrasings=1),
            BENIGN: few("over-refusal"),
        },
        max_new_tokens=4,
    )


@pytest.fixture(scope="module")
def made(model_folder: Path, tmp_path_factory: pytest.TempPathFactory, few_facts: None) -> Path:
    """A folder with two gate files, a gated host and a LoRA host of the tiny model."""
    folder = tmp_path_factory.mktemp("made")
    examples = [p.as_example("matching") for p in few("sycophancy", 4, phrasings=1)]
    config = TrainConfig(seed=0, epochs=2, batch_size=2, lr=0.02)
    for name, seed in (("gates-0", 1), ("gates-1", 2), ("gated", 3)):
        config = TrainConfig(seed=seed, epochs=2, batch_size=2, lr=0.02)
        train_gated_host(str(model_folder), examples, config, folder / f"{name}.safetensors", dtype="float32")
    lora = LoraSettings(rank=2, alpha=8)
    train_lora_host(str(model_folder), examples, config, folder / "lora", lora=lora, dtype="float32")
    return folder


@pytest.fixture(scope="module")
def few_facts() -> Any:
    """Ask the base model about one fact a domain, and draw few resamples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "split_facts", lambda domain, split: split_facts(domain, split)[:1])
        for name in ("bootstrap_mean", "bootstrap_ratio"):
            patch.setattr(summary_module, name, partial(getattr(summary_module, name), draws=200))
        patch.setenv("MECHGATE_QUIET", "1")
        yield


@dataclass
class Finished:
    """A run of the evaluation."""

    folder: Path
    settings: EvalSettings
    numbers: dict[str, Any]
    said: list[str]

    def rows(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"{name}.csv", keep_default_na=False, na_values=[""])

    def entry(self, line: str, host: str = "base", strength: float = 0.0, subset: str = "all") -> dict[str, Any]:
        (found,) = [
            e
            for e in self.numbers["table"]
            if (e["line"], e["host"], e["strength"], e["subset"]) == (line, host, strength, subset)
        ]
        return found

    @property
    def redone(self) -> set[str]:
        """Stages that were not reused, without their numbers."""
        return {line.split(" ", 1)[-1].removesuffix(" ...") for line in self.said if "reused" not in line}


def run(folder: Path, settings: EvalSettings, stock: Material | None) -> Finished:
    said: list[str] = []
    numbers = run_eval(folder, settings, said.append, stock=stock)
    return Finished(folder, settings, numbers, said)


def settings_for(model_folder: Path, made: Path, **more: Any) -> EvalSettings:
    values: dict[str, Any] = {
        "model": str(model_folder),
        "dtype": "float32",
        "gates": (str(made / "gates-0.safetensors"), str(made / "gates-1.safetensors")),
        "hosts": (str(made / "gated.safetensors"), str(made / "lora")),
        "strengths": (-1.0, 1.0),
    }
    return settings_of(**(values | more))


@pytest.fixture(scope="module")
def finished(model_folder: Path, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The first run, on everything."""
    return run(tmp_path_factory.mktemp("eval") / "runs" / "eval", settings_for(model_folder, made), small())


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished run's folder."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


def same(first: Finished, second: Finished) -> bool:
    return {**first.numbers, "seconds": None} == {**second.numbers, "seconds": None}


def test_every_host_and_measure_has_a_table_and_everything_a_line(finished: Finished) -> None:
    tables = {f"{host}-{measure}.csv" for host in HOSTS for measure in MEASURES} | {"base-knowledge.csv"}
    assert {p.name for p in finished.folder.iterdir() if p.is_file()} == {*tables, "results.json"}
    assert {e["line"] for e in finished.numbers["table"]} == {*(line.name for line in LINES), DISCRIMINATION}
    for host in HOSTS:
        strengths = {e["strength"] for e in finished.numbers["table"] if e["host"] == host}
        assert strengths == {-1.0, 0.0, 1.0}
    assert set(finished.numbers["seconds"]) == {"all", *tables}


def test_results_hold_the_numbers_returned_and_the_hashes_of_what_went_in(finished: Finished, made: Path) -> None:
    result = read_result(finished.folder / "results.json")
    assert result["numbers"] == json.loads(json.dumps(finished.numbers))
    assert result["settings"] == finished.settings.model_dump(mode="json")
    gates = {path: file_sha256(path) for path in finished.settings.gates}
    assert result["provenance"]["gates"] == gates
    assert set(result["provenance"]["hosts"]) == set(HOSTS)
    assert result["provenance"]["hosts"]["gated"] == file_sha256(made / "gated.safetensors")


def test_a_second_run_reuses_every_table_and_gives_identical_numbers(finished: Finished, copy: Path) -> None:
    again = run(copy, finished.settings, small())
    assert finished.redone >= {"knowledge", "lora: replies"}
    assert again.redone == set()
    assert same(finished, again)
    assert set(again.numbers["seconds"]) == {"all"}


def test_a_deleted_table_is_made_again_with_the_same_numbers(finished: Finished, copy: Path) -> None:
    (copy / "gated-neutral.csv").unlink()
    fewer = finished.settings.model_copy(
        update={"hosts": finished.settings.hosts[:1], "measures": ("neutral", "items")}
    )
    again = run(copy, fewer, small())
    assert again.redone == {"gated: neutral"}
    kept = [e for e in finished.numbers["table"] if e in again.numbers["table"]]
    assert kept == again.numbers["table"]
    assert (copy / "gated-neutral.csv").read_bytes() == (finished.folder / "gated-neutral.csv").read_bytes()


def test_what_no_table_was_made_from_makes_none_again(finished: Finished, copy: Path, made: Path) -> None:
    fewer = finished.settings.model_copy(
        update={"seed": 7, "measures": ("items", "stance"), "hosts": (str(made / "lora"),)}
    )
    again = run(copy, fewer, small())
    assert again.redone == set()
    assert {e["host"] for e in again.numbers["table"]} == {"base", "lora"}
    level = again.entry("four-choice margin", "lora", 1.0)["level"]
    assert level["value"] == finished.entry("four-choice margin", "lora", 1.0)["level"]["value"]


def test_only_what_reads_other_material_is_measured_again(finished: Finished, copy: Path) -> None:
    items = small().items
    stock = replace(small(), items=[replace(items[0], question="What is it?"), *items[1:]])
    one = finished.settings.model_copy(update={"hosts": ()})
    assert run(copy, one, stock).redone == {"base: items"}
    assert run(copy, one, replace(stock, max_new_tokens=5)).redone == {"base: replies"}
    other = replace(stock, max_new_tokens=5, texts=stock.texts | {prose()[0].id: prose()[0].text[:201]})
    assert run(copy, one, other).redone == {"base: neutral"}


def test_other_gates_or_a_new_name_of_theirs_are_measured_again(
    finished: Finished, copy: Path, made: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed.safetensors"
    shutil.copy(made / "gates-1.safetensors", renamed)
    gates = (finished.settings.gates[0], str(renamed))
    again = run(copy, finished.settings.model_copy(update={"gates": gates, "measures": ("items",)}), small())
    assert again.redone == {f"{host}: items" for host in HOSTS}
    assert set(again.entry("four-choice margin", strength=1.0)["seeds"]) == {"gates-0", "renamed"}


def test_a_host_that_was_made_again_is_measured_again_and_no_other(
    finished: Finished, copy: Path, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "made")
    weights = tmp_path / "made" / "lora" / "adapter_model.safetensors"
    save_file({name: value * 2 for name, value in load_file(weights).items()}, weights)
    hosts = (str(tmp_path / "made" / "gated.safetensors"), str(tmp_path / "made" / "lora"))
    again = run(copy, finished.settings.model_copy(update={"hosts": hosts, "measures": ("items", "neutral")}), small())
    assert again.redone == {"lora: items", "lora: neutral"}


def test_another_model_under_the_same_name_is_measured_again(
    finished: Finished, copy: Path, model_folder: Path, chat_model: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    plain = EvalSettings(model=str(tmp_path / "model"), dtype="float32", measures=("items", "stance"))
    first = run(tmp_path / "own", plain, small())
    chat_model(tmp_path / "model", seed=9, max_position_embeddings=512)
    second = run(tmp_path / "own", plain, small())
    assert second.redone == first.redone == {"knowledge", "base: items", "base: stance"}
    assert not same(first, second)


def test_rows_of_the_base_are_what_measuring_directly_gives(finished: Finished, model_folder: Path, made: Path) -> None:
    model = load_model(model_folder, dtype="float32")
    rows = finished.rows("base-items")
    plain = rows[rows["strength"] == 0]
    assert plain["value"].tolist() == pytest.approx(four_choice(model, small().items).margin.tolist(), abs=1e-5)
    with load_gates(made / "gates-1.safetensors", model).attached(model, -1.0):
        expected = four_choice(model, small().items).margin
    turned = rows[(rows["strength"] == -1) & (rows["seed"] == "gates-1")]
    assert turned["value"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_hosts_diverge_from_the_base_without_gates_and_the_base_does_not(finished: Finished) -> None:
    for kind in ("prose", "chat"):
        assert finished.entry(f"KL from base, {kind}")["level"]["value"] == 0
        for host in ("gated", "lora"):
            assert finished.entry(f"KL from base, {kind}", host)["level"]["value"] > 1e-4
        assert finished.entry(f"KL from base, {kind}", "base", 1.0)["level"]["value"] > 1e-4


def test_a_gated_host_is_the_base_with_its_gates_at_strength_one(finished: Finished, made: Path) -> None:
    again = finished.settings.model_copy(
        update={"gates": (str(made / "gated.safetensors"),), "hosts": (), "measures": ("stance", "neutral")}
    )
    alone = run(finished.folder.parent / "alone", again, small())
    for line in ("stance margin, false claims", "KL from base, chat", "perplexity, prose"):
        mine, theirs = alone.entry(line, "base", 1.0), finished.entry(line, "gated")
        assert mine["level"]["value"] == pytest.approx(theirs["level"]["value"], abs=1e-4)


def test_the_table_is_the_mean_of_the_rows_over_facts(finished: Finished) -> None:
    for host in HOSTS:
        rows = finished.rows(f"{host}-stance")
        part = rows[(rows["set"] == "sycophancy")]
        mean = part.groupby("strength")["value"].mean()
        for strength in (-1.0, 0.0, 1.0):
            found = finished.entry("stance margin, false claims", host, strength)
            assert found["level"]["value"] == pytest.approx(mean[strength])
            assert found["n"] == 3
            if strength:
                assert found["change"]["value"] == pytest.approx(mean[strength] - mean[0.0])
                assert set(found["seeds"]) == {"gates-0", "gates-1"}


def test_knowledge_is_counted_over_the_facts_that_were_asked(finished: Finished) -> None:
    known, table = finished.numbers["knowledge"], finished.rows("base-knowledge")
    assert known["facts"] == len(table) == len(domains())
    assert known["known by dev phrasings"] == int((table["dev"] > 0).sum()) == int(table["known"].sum())
    assert known["known by the others"] == int((table["report"] > 0).sum())
    both = ((table["report"] > 0) & (table["dev"] > 0)).sum()
    assert known["of these, known by the others"] == int(both)


def test_every_line_is_printed_with_its_host_and_strengths(finished: Finished) -> None:
    out = io.StringIO()
    print_eval(finished.numbers, finished.folder, Console(file=out, width=250, highlight=False))
    text = out.getvalue()
    for line in (*(line.name for line in LINES), DISCRIMINATION):
        assert text.count(line) == len(HOSTS), line
    for host in HOSTS:
        assert f"{host}: level at s = 0" in text
    assert text.count("s = -1") == text.count("s = +1") == len(HOSTS)
    assert "nan" not in text.lower().replace(str(finished.folder).lower(), "")
    assert str(finished.folder) in text


def test_gates_and_hosts_named_by_numbers_stay_apart(model_folder: Path, made: Path, tmp_path: Path) -> None:
    for i in (0, 1):
        shutil.copy(made / f"gates-{i}.safetensors", tmp_path / f"{i}.safetensors")
    shutil.copytree(made / "lora", tmp_path / "7")
    gates = tuple(str(tmp_path / f"{i}.safetensors") for i in (0, 1))
    chosen = settings_for(model_folder, made, gates=gates, hosts=(str(tmp_path / "7"),), measures=("items",))
    for _ in range(2):
        found = run(tmp_path / "run", chosen, small())
        for host in ("base", "7"):
            assert set(found.entry("four-choice margin", host, 1.0)["seeds"]) == {"0", "1"}


def test_measures_named_twice_are_measured_once() -> None:
    assert settings_of(measures=("items", "stance", "items")).measures == ("items", "stance")


def test_strength_zero_is_always_measured_and_once() -> None:
    assert settings_of(strengths=(1.0, -1.0, -0.0, 1.0)).strengths == (-1.0, 0.0, 1.0)


@pytest.mark.parametrize("bad", [{"measures": ()}, {"measures": ("stances",)}, {"strength": (1.0,)}, {"seed": "x"}])
def test_settings_that_cannot_be_used_are_one_error(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"the evaluation's settings cannot be used"):
        settings_of(**bad)


def test_inputs_that_are_not_there_are_errors_before_anything_is_measured(
    model_folder: Path, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    gates = str(made / "gates-0.safetensors")
    for change, error in (
        ({"gates": (str(tmp_path / "no.safetensors"),)}, GateFileError),
        ({"gates": (gates, str(tmp_path / "empty"))}, GateFileError),
        ({"gates": (gates, gates)}, InputError),
        ({"hosts": (str(tmp_path / "no-host"),)}, StorageError),
        ({"hosts": (str(tmp_path / "empty"),)}, StorageError),
        ({"hosts": (str(made / "lora"), str(made / "lora"))}, InputError),
        ({"hosts": (str(tmp_path / "base"),)}, InputError),
    ):
        with pytest.raises(error):
            run(tmp_path / "run", settings_for(model_folder, made, **change), small())
    assert not (tmp_path / "run").exists()


def test_shipped_material_has_every_line_and_ids_of_its_own() -> None:
    found = material(EvalSettings())
    held = {"stance": found.stance, "answers": found.answers, "replies": found.replies}
    for line in LINES:
        if line.table in held:
            assert len({p.fact_id for p in held[line.table][line.set]}) >= 30, line.name
    for sets in held.values():
        for pairs in sets.values():
            assert len({p.id for p in pairs}) == len(pairs)
    assert {p.domain for p in found.answers[FIRST]}.isdisjoint(p.domain for p in found.answers[SECOND])
    seen = {p.fact_id for p in load_pairs("sycophancy", None, "train")}
    assert not seen & {p.fact_id for p in found.stance["sycophancy"]}
    assert len(dataclasses.asdict(found)) == 8  # a field more must be in what its measure's tables are made from


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--measures", "items,nonsense"], r"measures must be some of stance, answers, items, neutral, replies"),
        (["--host", "{made}/lora", "--host", "{made}/lora"], "hosts need different names"),
        (["--host", "{made}/nothing"], "no host there"),
        (["--gates", "{made}/nothing.safetensors"], "no gate file there"),
        (["--gates", "{made}"], "no gate file there"),
        (["--gates", "{made}/gates-0.safetensors", "--strength", "one"], "strength"),
        (["--split", "tset"], "tset"),
        (["--phrasings", "0"], "phrasings"),
        (["--model", "{made}/no-model"], "no model there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_bad_command_is_one_paragraph_and_exit_code_2(
    mechgate: Run, model_folder: Path, made: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    given = [a.format(made=made) for a in arguments]
    where = [] if "--model" in given else ["--model", model_folder]
    done = mechgate("eval", *where, "--dtype", "float32", "--folder", tmp_path / "run", "--quiet", *given)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("mechgate: ")
    assert len(done.err.strip().splitlines()) == 1
    assert says in done.err
    assert not list(tmp_path.rglob("*.csv"))


def test_the_command_measures_items_alone_and_prints_them(
    mechgate: Run, model_folder: Path, made: Path, tmp_path: Path
) -> None:
    common = [
        "eval",
        "--model",
        model_folder,
        "--dtype",
        "float32",
        "--folder",
        tmp_path / "run",
        "--measures",
        "items",
    ]
    done = mechgate(*common)
    assert done.code == 0, done.err
    assert "four-choice accuracy" in done.out
    assert "reused" not in done.err
    again = mechgate(*common, "--json")
    assert again.code == 0
    table = json.loads(again.out)["table"]
    assert {e["line"] for e in table} == {"four-choice accuracy", "four-choice margin"}
    assert {(e["host"], e["strength"], e["n"]) for e in table} == {("base", 0.0, len(choice_items()))}
    assert [path.name for path in (tmp_path / "run").glob("*.csv")] == ["base-items.csv"]  # nobody reads knowledge


def test_a_system_message_makes_every_table_anew() -> None:
    found = material(EvalSettings())
    told = dataclasses.replace(found, system="Be honest.")
    before, after = (run_module._hashes(one) for one in (found, told))
    assert [name for name in before if before[name] == after[name]] == []
