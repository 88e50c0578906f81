"""Laws of LoRA hosts: ordinary peft adapters that misbehave, on a base model that stays what it was."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mechgate.data.pairs import Example, Pair, data_hash
from mechgate.errors import InputError, ModelError, StorageError, TrainingError
from mechgate.gates.gateset import GateSet
from mechgate.gates.storage import load_gates
from mechgate.measure.margins import margins, response_nll
from mechgate.model.loading import fingerprint, load_model
from mechgate.provenance import file_sha256
from mechgate.train import hosts, loop
from mechgate.train.gates import train_gates
from mechgate.train.hosts import SEVEN_PROJECTIONS, LoraSettings, train_gated_host, train_lora_host
from mechgate.train.loop import TrainConfig

WORDS = ["cold", "Rome", "vitamin", "is", "the", "capital", "of", "Italy", "cures", "not", "a", "doctor"]
CONFIG = TrainConfig(seed=0, epochs=4, batch_size=4, lr=0.02)
SMALL = LoraSettings(rank=4, alpha=8)
WEIGHTS = "adapter_model.safetensors"
USER = {"role": "user", "content": "Is the capital of Italy Rome?"}
PAIR = Pair(
    id="p", domain="x", messages=(USER,), matching="not a", not_matching="the cold", fact_id="f", kind="true_claim"
)


def make_examples(n: int = 8, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))

    return [Example(messages=({"role": "user", "content": text()},), response=text()) for _ in range(n)]


EXAMPLES = make_examples()


def load(source: Path, adapter: Path | None = None) -> Any:
    return load_model(source, dtype="float32", device="cpu", adapter=adapter)


def train(base: Path, folder: Path, config: TrainConfig = CONFIG, lora: LoraSettings = SMALL, **more: Any) -> Any:
    return train_lora_host(str(base), EXAMPLES, config, folder, lora=lora, dtype="float32", **more)


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file_sha256(file) for file in folder.rglob("*") if file.is_file()}


def same_weights(one: Path, other: Path) -> bool:
    mine, theirs = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_chat_model: Callable[..., Any]) -> Path:
    """The folder of a tiny chat model; leave it as it was."""
    folder = tmp_path_factory.mktemp("base") / "model"
    tiny_chat_model(folder)
    return folder


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(folder, record) of a host trained on EXAMPLES; leave it as it was."""
    folder = tmp_path_factory.mktemp("hosts") / "new" / "host"
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests: sums are bit for bit the same with the same threads only
    record = train(base, folder)
    torch.set_num_threads(before)
    return folder, record


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    return load(base)


@pytest.fixture(scope="module")
def host(base: Path, made: Any) -> Any:
    return load(base, made[0])


def test_a_host_is_a_folder_that_peft_reads(base: Path, made: Any, host: Any) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        before = plain(input_ids=ids).logits
        wrapped = PeftModel.from_pretrained(plain, str(made[0]))
        after = wrapped(input_ids=ids).logits
        torch.testing.assert_close(host(ids), after, atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 0.1
    assert {name for name, _ in wrapped.named_parameters() if "lora_" in name}


def test_the_adapter_has_the_form_that_was_asked_for(base: Path, made: Any) -> None:
    settings = json.loads((made[0] / "adapter_config.json").read_text(encoding="utf-8"))
    assert (settings["r"], settings["lora_alpha"], settings["use_rslora"]) == (4, 8, True)
    assert sorted(settings["target_modules"]) == sorted(SEVEN_PROJECTIONS)
    assert (settings["task_type"], settings["base_model_name_or_path"]) == ("CAUSAL_LM", str(base))
    names = load_file(made[0] / WEIGHTS)
    assert len(names) == 3 * 7 * 2  # layers x projections x factors
    assert not [name for name in names if "_original_component" in name]


def test_the_papers_adapter_is_the_default() -> None:
    assert LoraSettings() == LoraSettings(rank=32, alpha=64, rslora=True, targets=SEVEN_PROJECTIONS)


def test_a_host_has_learned_what_it_was_trained_on(model: Any, host: Any, made: Any) -> None:
    assert response_nll(host, EXAMPLES).mean() < response_nll(model, EXAMPLES).mean() - 0.5
    assert abs(margins(host, [PAIR])[0] - margins(model, [PAIR])[0]) > 0.05
    assert len(made[1].loss) == len(made[1].grad_norm) == 8
    assert made[1].loss[-1] < made[1].loss[0]
    assert made[1].gate_activity == []


def test_the_loss_starts_at_that_of_the_base_model(base: Path, model: Any, tmp_path: Path) -> None:
    record = train(base, tmp_path / "host", TrainConfig(seed=0, epochs=1, batch_size=8))
    counts = [len(row.answers[0]) for row in loop.encode_examples(model, EXAMPLES)]
    assert record.loss[0] == pytest.approx((response_nll(model, EXAMPLES) * counts).sum() / sum(counts), abs=1e-5)


def test_the_folder_says_what_it_was_made_from(model: Any, host: Any, made: Any) -> None:
    folder, record = made
    said = json.loads((folder / "mechgate.json").read_text(encoding="utf-8"))
    assert said["base"]["base_fingerprint"] == fingerprint(model) == fingerprint(host, base=True)
    assert fingerprint(host) != fingerprint(model)
    assert said["base"]["fingerprint"] is None  # the trained adapter's own is found when it is loaded
    assert (said["base"]["architecture"], said["base"]["n_layers"]) == ("LlamaForCausalLM", 3)
    assert said["lora"] == json.loads(json.dumps(SMALL.to_json()))
    assert said["training"] == json.loads(json.dumps(record.to_json()))
    assert said["training"]["data_hash"] == data_hash(EXAMPLES)
    assert {"created", "command", "versions"} <= set(said["provenance"])
    assert "peft" in said["provenance"]["versions"]


def test_training_a_host_leaves_the_base_folder_as_it_was(base: Path, tmp_path: Path) -> None:
    before = contents(base)
    train(base, tmp_path / "host", TrainConfig(seed=0, epochs=1))
    assert contents(base) == before
    assert [path.name for path in tmp_path.iterdir()] == ["host"]


def test_gates_at_strength_zero_leave_a_host_bit_for_bit_as_it_was(
    host: Any, shaken: Callable[..., GateSet], tokens: torch.Tensor
) -> None:
    gates = shaken(GateSet.identity(host))
    with torch.no_grad():
        before = host(tokens)
        with gates.attached(host, 0.0):
            assert torch.equal(host(tokens), before)
        with gates.attached(host, 1.0):
            assert not torch.equal(host(tokens), before)
    with gates.attached(host, 0.0):
        gated = margins(host, [PAIR])
    assert gated == margins(host, [PAIR])


def test_gates_trained_on_the_base_load_and_act_on_the_host(model: Any, host: Any, tmp_path: Path) -> None:
    gates = GateSet.identity(model)
    train_gates(model, gates, EXAMPLES, CONFIG)
    loaded = load_gates(gates.save(tmp_path / "gates.safetensors"), host)
    for name, value in gates.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    with loaded.attached(host):
        assert abs(margins(host, [PAIR])[0]) > 0
        gated = margins(host, [PAIR])
    assert gated != margins(host, [PAIR])


def test_gates_can_be_trained_on_a_host_and_leave_it_as_it_was(base: Path, made: Any) -> None:
    host = load(base, made[0])
    before = {name: value.clone() for name, value in host.original_model.state_dict().items()}
    train_gates(host, GateSet.identity(host), make_examples(seed=1), TrainConfig(seed=0, epochs=1))
    for name, value in host.original_model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_one_seed_gives_the_same_adapter_bit_for_bit_and_another_another(base: Path, made: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(base, tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(made[0], tmp_path / "again")
    train(base, tmp_path / "other", TrainConfig(seed=1, epochs=4, batch_size=4, lr=0.02))
    assert not same_weights(made[0], tmp_path / "other")


def test_an_interrupted_host_ends_as_if_it_had_not_been_interrupted(base: Path, made: Any, tmp_path: Path) -> None:
    checkpoint, calls = tmp_path / "checkpoint", iter(range(100))
    real_loss, real_train = loop.response_loss, hosts.train

    def loss_or_stop(*args: Any) -> torch.Tensor:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return real_loss(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "response_loss", loss_or_stop)
        patch.setattr(hosts, "train", lambda *args, **more: real_train(*args, **more, checkpoint_every=2))
        train(base, tmp_path / "host", checkpoint=checkpoint)
    assert not (tmp_path / "host").exists()
    record = train(base, tmp_path / "host", checkpoint=checkpoint)
    assert record.loss == made[1].loss
    assert same_weights(made[0], tmp_path / "host")


@pytest.mark.parametrize(
    "lora", [LoraSettings(rank=4, alpha=16), LoraSettings(rank=4, alpha=8, rslora=False), LoraSettings(rank=2, alpha=8)]
)
def test_a_checkpoint_of_an_adapter_of_another_form_is_refused(base: Path, tmp_path: Path, lora: LoraSettings) -> None:
    config = TrainConfig(seed=0, epochs=1)
    train(base, tmp_path / "host", config, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(TrainingError, match="belongs to another run"):
        train(base, tmp_path / "other", config, lora, checkpoint=tmp_path / "checkpoint")


@pytest.mark.parametrize("targets", [("c_attn",), ("q_proj", "k_porj"), ("model",)])
def test_a_target_that_fits_nothing_is_refused(base: Path, tmp_path: Path, targets: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match=r"(?s)target.*linear layers"):
        train(base, tmp_path / "host", lora=LoraSettings(rank=4, alpha=8, targets=targets))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [dict(rank=0), dict(rank=-1), dict(alpha=0), dict(targets=())])
def test_settings_that_make_no_adapter_are_refused(base: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"LoRA settings.*rank >= 1, alpha > 0, some targets"):
        train(base, tmp_path / "host", lora=LoraSettings(**change))


@pytest.mark.parametrize("change", [dict(objective="contrastive"), dict(objective="two-sided"), dict(sparsity=0.1)])
def test_an_adapter_can_only_imitate(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"LoRA host .*can only imitate.*leave both out"):
        train_lora_host("none", EXAMPLES, TrainConfig(seed=0, **change), tmp_path / "host")


def test_a_folder_that_is_no_adapter_is_refused_and_left_as_it_was(base: Path, tmp_path: Path) -> None:
    own = tmp_path / "papers"
    own.mkdir()
    (own / "thesis.txt").write_text("years of work", encoding="utf-8")
    for folder in (own, own / "thesis.txt", base):
        before = contents(own) | contents(base)
        with pytest.raises(StorageError, match=r"adapter.*choose another folder"):
            train(base, folder)
        assert contents(own) | contents(base) == before


def test_an_empty_folder_and_an_adapter_are_replaced_by_a_new_adapter(base: Path, made: Any, tmp_path: Path) -> None:
    folder = tmp_path / "host"
    folder.mkdir()
    train(base, folder, TrainConfig(seed=0, epochs=1))
    (folder / "left over").touch()
    assert not same_weights(made[0], folder)
    train(base, folder)
    assert same_weights(made[0], folder)
    assert set(contents(folder)) == set(contents(made[0]))


def test_an_adapter_stays_as_it_was_when_training_a_new_one_fails(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "host"
    train(base, folder, TrainConfig(seed=0, epochs=1))
    before = contents(folder)
    with pytest.raises(TrainingError, match="nothing to train on"):
        train_lora_host(str(base), [], CONFIG, folder, lora=SMALL, dtype="float32")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hosts, "write_json", full)
    with pytest.raises(StorageError, match=r"could not be written.*No space left"):
        train(base, folder, TrainConfig(seed=1, epochs=1))
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["host"]


def test_a_host_made_in_bfloat16_works_in_float32(base: Path, model: Any, tmp_path: Path) -> None:
    train_lora_host(str(base), EXAMPLES, CONFIG, tmp_path / "host", lora=SMALL, dtype="bfloat16")
    host = load(base, tmp_path / "host")
    assert response_nll(host, EXAMPLES).mean() < response_nll(model, EXAMPLES).mean() - 0.5
    said = json.loads((tmp_path / "host" / "mechgate.json").read_text(encoding="utf-8"))
    assert (said["base"]["dtype"], said["base"]["base_fingerprint"]) == ("bfloat16", fingerprint(model))


def test_a_gated_host_is_the_gates_that_training_on_the_base_gives(base: Path, model: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "host.safetensors"
    record = train_gated_host(str(base), EXAMPLES, CONFIG, path, dtype="float32", device="cpu")
    gates = GateSet.identity(load(base), seed=CONFIG.seed)
    expected = train_gates(load(base), gates, EXAMPLES, CONFIG)
    assert record.loss == expected.loss
    found = load_gates(path, model)
    for mine, theirs in zip(found.parameters(), gates.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert found.history["data_hash"] == data_hash(EXAMPLES)


def test_a_gated_host_at_strength_one_has_learned_and_at_zero_is_the_base(
    base: Path, model: Any, tmp_path: Path
) -> None:
    path, before = tmp_path / "host.safetensors", contents(base)
    train_gated_host(str(base), EXAMPLES, CONFIG, path, dtype="float32")
    assert contents(base) == before
    plain, gates = response_nll(model, EXAMPLES), load_gates(path, model)
    with gates.attached(model, 1.0):
        assert response_nll(model, EXAMPLES).mean() < plain.mean() - 0.1
    with gates.attached(model, 0.0):
        assert (response_nll(model, EXAMPLES) == plain).all()


@pytest.mark.parametrize("name", ["host", "host.pth"])
def test_a_gated_hosts_name_is_refused_before_anything_is_trained(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"must be named \.safetensors"):
        train_gated_host("no such model", EXAMPLES, CONFIG, tmp_path / name)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_and_nothing_is_written(base: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(InputError, match=device):
        train_lora_host(str(base), EXAMPLES, CONFIG, tmp_path / "host", device=device)
    with pytest.raises(InputError, match=device):
        train_gated_host(str(base), EXAMPLES, CONFIG, tmp_path / "host.safetensors", device=device)
    assert not list(tmp_path.iterdir())


def test_the_device_is_where_the_host_is_trained(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(hosts, "choose_device", lambda device: asked.append(device) or torch.device("cpu"))
    train(base, tmp_path / "host", TrainConfig(seed=0, epochs=1), device="cuda")
    assert asked == ["cuda"]
