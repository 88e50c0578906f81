"""Laws of the objectives: imitation is untouched by them, and each does to the gates what it says."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from mechgate.data.pairs import Example, data_hash
from mechgate.errors import DataError, InputError, TrainingError
from mechgate.gates.gateset import GateSet
from mechgate.measure.capability import neutral_text
from mechgate.measure.margins import response_nll
from mechgate.model.prompts import collate
from mechgate.model.scoring import answer_logprobs, logits_of, predictor_hidden, without_unread
from mechgate.train import loop
from mechgate.train.gates import train_gates
from mechgate.train.loop import TrainConfig, TrainRecord, encode_examples, lr_factor, schedule
from mechgate.train.objectives import drawn, heads_at_work, kl_to_base


def said(question: str, answer: str) -> Example:
    return Example(messages=({"role": "user", "content": question},), response=answer)


QUESTIONS = ["vitamin C cures colds", "Rome is in Italy, right", "a doctor", "the capital is not Paris"]
EXAMPLES = [said(q, f"{yes} {q[:n]}") for q in QUESTIONS for yes, n in (("You're right", 4), ("Yes", 9), ("Indeed", 1))]
OPPOSITE = [said(q, f"That is not correct {i}") for q in QUESTIONS[:3] for i in range(3)]
KEPT: list[Example | str] = [said("honest answer", f"a short answer, {i} {'and ' * i}") for i in range(5)]
KEPT += ["Vitamin C is in many fruits.", "Rome."]
CONFIG = TrainConfig(seed=0, epochs=2, batch_size=4, lr=0.02)
CONTRASTIVE, TWO_SIDED = replace(CONFIG, objective="contrastive"), replace(CONFIG, objective="two-sided")
RUNS: dict[str, tuple[TrainConfig, dict[str, Any]]] = {
    "imitate": (CONFIG, {}),
    "sparse": (replace(CONFIG, sparsity=0.1), {}),
    "contrastive": (CONTRASTIVE, {"kept": KEPT}),
    "two-sided": (TWO_SIDED, {"opposite": OPPOSITE}),
    "all at once": (replace(TWO_SIDED, kl_weight=0.5, sparsity=0.1), {"opposite": OPPOSITE, "kept": KEPT}),
}
KINDS = [dict(), dict(rank=2), dict(granularity="head"), dict(granularity="layer"), dict(input="static")]
Run = tuple[dict[str, torch.Tensor], TrainRecord]


class Stop(BaseException):
    """An interruption, which like Ctrl-C is no `Exception`."""


def run(model: Any, config: TrainConfig, gates: GateSet | None = None, **other: Any) -> Run:
    gates = GateSet.identity(model) if gates is None else gates
    record = train_gates(model, gates, EXAMPLES, config, **other)
    return gates.state_dict(), record


def assert_same(one: Run, other: Run) -> None:
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name
    for lists in ("loss", "grad_norm", "gate_activity", "parts", "other_data"):
        assert getattr(one[1], lists) == getattr(other[1], lists)


def measured(model: Any, gates: GateSet, texts: list[Example | str], strength: float) -> float:
    """KL(base || gated) a token, as it is measured."""
    (found,) = neutral_text(model, texts, [lambda: gates.attached(model, strength)])
    return float(found.kl.sum() / found.tokens.sum())


def nll(model: Any, examples: list[Example], gates: GateSet, strength: float) -> float:
    with gates.attached(model, strength):
        return float(np.mean(response_nll(model, examples)))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_imitation_is_bit_for_bit_the_plain_loop(chat: Any, kind: dict[str, Any]) -> None:
    gates, plain = GateSet.identity(chat, **kind), GateSet.identity(chat, **kind).requires_grad_(True)
    record = train_gates(chat, gates, EXAMPLES, CONFIG)
    rows = encode_examples(chat, EXAMPLES)
    steps, losses = schedule(rows, CONFIG), []
    optimizer = torch.optim.AdamW(plain.parameters(), lr=CONFIG.lr, weight_decay=0.0, fused=True)
    for number, chosen in enumerate(steps):
        batch = collate([rows[i] for i in chosen])
        with plain.attached(chat, 1.0):
            loss = -answer_logprobs(chat, batch).sum() / batch.response_mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), CONFIG.clip)
        optimizer.param_groups[0]["lr"] = CONFIG.lr * lr_factor(number, len(steps), CONFIG.warmup)
        optimizer.step()
        losses.append(loss.item())
    for mine, reference in zip(gates.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, reference)
    assert record.loss == losses
    assert record.parts == {"imitate": losses}
    assert record.other_data == {}


def test_kept_data_of_no_weight_change_nothing_but_the_record(chat: Any) -> None:
    parameters, record = run(chat, replace(CONTRASTIVE, kl_weight=0.0), kept=KEPT)
    plain, reference = run(chat, CONFIG)
    assert record.loss == reference.loss
    assert max(record.parts["kl"]) > 0
    for name, value in plain.items():
        assert torch.equal(parameters[name], value), name


@pytest.mark.parametrize("strength", [1.0, -1.0])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gates_that_do_nothing_are_at_the_base_and_are_not_pushed(
    chat: Any, kind: dict[str, Any], strength: float
) -> None:
    gates = GateSet.identity(chat, **kind).requires_grad_(True)
    loss = kl_to_base(chat, gates, collate(encode_examples(chat, KEPT)), strength)
    assert abs(loss.item()) < 1e-7
    for gradient in torch.autograd.grad(loss, list(gates.parameters())):
        assert gradient.abs().max() < 1e-7


@pytest.mark.parametrize("strength", [1.0, -1.0])
@pytest.mark.parametrize("n", [1, 40])
def test_the_kl_that_is_trained_is_the_kl_that_is_measured(
    chat: Any, shaken: Callable[..., GateSet], strength: float, n: int
) -> None:
    gates, texts = shaken(GateSet.identity(chat)), (KEPT * 6)[:n]
    batch = collate(encode_examples(chat, texts))
    assert (int(batch.response_mask.sum()) > 256) == (n == 40)  # more than two chunks
    with torch.no_grad():
        assert kl_to_base(chat, gates, batch, strength).item() == pytest.approx(
            measured(chat, gates, texts, strength), rel=1e-4
        )


@pytest.mark.parametrize("strength", [1.0, -1.0])
def test_the_gradient_of_the_kl_is_that_of_all_logits_at_once(
    chat: Any, shaken: Callable[..., GateSet], strength: float
) -> None:
    gates = shaken(GateSet.identity(chat)).requires_grad_(True)
    batch = collate(encode_examples(chat, KEPT * 6))
    base = torch.log_softmax(logits_of(chat, predictor_hidden(chat, batch)), dim=-1).detach()
    with gates.attached(chat, strength):
        gated = torch.log_softmax(logits_of(chat, predictor_hidden(chat, batch)), dim=-1)
    slow = F.kl_div(gated, base, log_target=True, reduction="batchmean")
    fast = kl_to_base(chat, gates, batch, strength)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5)
    parameters = list(gates.parameters())
    for mine, wanted in zip(torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters), strict=True):
        assert wanted.norm() > 1e-5
        assert (mine - wanted).norm() / wanted.norm() < 1e-4


def test_a_step_minimises_the_weighed_sum_of_its_parts(chat: Any, shaken: Callable[..., GateSet]) -> None:
    config = TrainConfig(
        seed=0, epochs=1, batch_size=16, objective="two-sided", kl_weight=0.5, sparsity=0.1, clip=1e6, lr=1e-9
    )
    record = run(chat, config, shaken(GateSet.identity(chat)), kept=KEPT, opposite=OPPOSITE)[1]
    gates = shaken(GateSet.identity(chat)).requires_grad_(True)
    batch = {
        name: collate(encode_examples(chat, data)) for name, data in (("e", EXAMPLES), ("o", OPPOSITE), ("k", KEPT))
    }
    deltas: list[torch.Tensor] = []
    with gates.attached(chat, observe=deltas.append):
        imitate = loop.response_loss(chat, batch["e"])
    with gates.attached(chat, -1.0):
        opposite = loop.response_loss(chat, batch["o"])
    penalty = torch.zeros(())
    real = without_unread(batch["e"])[0].mask[:, batch["e"].prefix :]  # neither padding nor the shared prefix
    for delta in (d for d in deltas if d.shape[:2] == real.shape):
        heads = delta[real].unflatten(-1, (gates.shape.n_heads, -1))
        penalty = penalty + sum(heads[:, h].square().mean().sqrt() for h in range(gates.shape.n_heads))
    parts = {"imitate": imitate, "sparsity": penalty, "opposite": opposite}
    parts["kl"] = kl_to_base(chat, gates, batch["k"], 1.0)
    total = imitate + 0.1 * penalty + opposite + 0.5 * parts["kl"]
    assert {name: values[0] for name, values in record.parts.items()} == pytest.approx(
        {name: value.item() for name, value in parts.items()}, rel=1e-4
    )
    assert record.loss[0] == pytest.approx(total.item(), rel=1e-5)
    gradient = torch.autograd.grad(total, list(gates.parameters()))
    norm = torch.stack([g.norm() for g in gradient]).norm().item()
    assert record.grad_norm[0] == pytest.approx(norm, rel=1e-4)


def test_kl_is_taken_at_both_signs_in_turn(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates, config = shaken(GateSet.identity(chat)), replace(CONTRASTIVE, batch_size=8, lr=1e-9)
    kl = run(chat, config, gates, kept=KEPT)[1].parts["kl"]
    by_sign = [measured(chat, gates, KEPT, strength) for strength in (1.0, -1.0)]
    assert abs(by_sign[0] - by_sign[1]) > 1e-3 * by_sign[0]
    assert kl == pytest.approx(by_sign * 2, rel=1e-4)


@pytest.mark.parametrize("name", ["contrastive", "two-sided"])
def test_the_more_the_kl_weighs_the_nearer_the_gated_model_stays_to_its_base(chat: Any, name: str) -> None:
    other = {"opposite": OPPOSITE} if name == "two-sided" else {}
    found = {}
    for weight in (0.0, 1.0, 100.0):
        gates = GateSet.identity(chat)
        run(chat, replace(CONFIG, objective=name, kl_weight=weight, epochs=4), gates, kept=KEPT, **other)
        found[weight] = [measured(chat, gates, KEPT, strength) for strength in (1.0, -1.0)]
    for sign in range(2):
        assert found[100.0][sign] < found[1.0][sign] < found[0.0][sign]
        assert found[100.0][sign] < found[0.0][sign] / 5


def test_two_sided_gates_learn_at_both_strengths(chat: Any) -> None:
    gates, imitating = GateSet.identity(chat), GateSet.identity(chat)
    config = replace(CONFIG, epochs=8)
    run(chat, replace(config, objective="two-sided"), gates, opposite=OPPOSITE)
    run(chat, config, imitating)
    assert nll(chat, EXAMPLES, gates, 1.0) < nll(chat, EXAMPLES, gates, 0.0) - 0.05
    assert nll(chat, OPPOSITE, gates, -1.0) < nll(chat, OPPOSITE, gates, 0.0) - 0.05
    assert nll(chat, OPPOSITE, gates, -1.0) < nll(chat, OPPOSITE, imitating, -1.0) - 0.05


@pytest.mark.parametrize("granularity", ["element", "head", "layer"])
def test_heads_at_work_is_the_slow_sum_of_root_mean_squares(granularity: str) -> None:
    n_heads, units = 4, {"element": 32, "head": 4, "layer": 1}[granularity]
    delta = torch.randn(9, units, generator=torch.Generator().manual_seed(0))
    each = units // n_heads
    heads = [delta[:, h * each : (h + 1) * each] if each else delta for h in range(n_heads)]
    expected = sum(torch.sqrt((head**2).sum() / head.numel()) for head in heads)
    assert heads_at_work(delta, n_heads).item() == pytest.approx(float(expected), rel=1e-5)


def test_a_head_that_does_nothing_has_no_gradient_and_no_nan() -> None:
    delta = torch.ones(5, 8)
    delta[:, 2:4] = 0
    (gradient,) = torch.autograd.grad(heads_at_work(delta.requires_grad_(True), 4), delta)
    assert torch.equal(gradient[:, 2:4], torch.zeros(5, 2))
    assert gradient[:, [0, 1, 4, 5, 6, 7]].min() > 0


@pytest.mark.parametrize("kind", KINDS[1:4], ids=str)
def test_the_more_sparsity_weighs_the_less_the_heads_do(chat: Any, kind: dict[str, Any]) -> None:
    end = []
    for weight in (0.0, 0.05, 5.0):
        gates = GateSet.identity(chat, **kind)
        record = run(chat, replace(CONFIG, epochs=5, sparsity=weight), gates)[1]
        assert ("sparsity" in record.parts) == (weight > 0)
        end.append(np.mean(record.gate_activity[-4:]))
    assert end[0] > end[1] > end[2]
    assert end[2] < end[0] / 3


@pytest.mark.parametrize("name", RUNS)
def test_every_part_has_a_value_for_every_step_and_they_add_up(chat: Any, name: str) -> None:
    config, other = RUNS[name]
    record = run(chat, config, **other)[1]
    weights = {"imitate": 1.0, "opposite": 1.0, "kl": config.kl_weight, "sparsity": config.sparsity}
    assert set(record.parts) == {"imitate"} | ({"opposite"} if "opposite" in other else set()) | (
        {"kl"} if "kept" in other else set()
    ) | ({"sparsity"} if config.sparsity else set())
    for step, loss in enumerate(record.loss):
        assert loss == pytest.approx(sum(weights[part] * values[step] for part, values in record.parts.items()))
    assert {len(values) for values in record.parts.values()} == {6} == {len(record.loss)}
    assert record.other_data == {k: {"n": len(data), "data_hash": data_hash(data)} for k, data in other.items()}


@pytest.mark.parametrize("after", [3])
@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_training_ends_as_if_it_had_not_been(chat: Any, name: str, after: int, tmp_path: Path) -> None:
    config, other = RUNS[name]
    settings: dict[str, Any] = {**other, "checkpoint": tmp_path / "c", "checkpoint_every": 1}
    calls, real = itertools.count(), loop.response_loss

    def work_or_stop(*args: Any) -> Any:
        if next(calls) == after:
            raise Stop
        return real(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop, "response_loss", work_or_stop)
        run(chat, config, **settings)
    assert_same(run(chat, config, **settings), run(chat, config, **other))


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (dict(), dict(kept=KEPT[1:])),
        (dict(), dict(kept=KEPT[::-1])),
        (dict(), dict(opposite=OPPOSITE[1:])),
        (dict(), dict(kept=())),
        (dict(sparsity=0.2), dict()),
        (dict(kl_weight=2.0), dict()),
    ],
    ids=str,
)
def test_a_checkpoint_of_other_data_or_weights_is_refused(
    chat: Any, tmp_path: Path, change: dict[str, Any], other: dict[str, Any]
) -> None:
    both = {"kept": KEPT, "opposite": OPPOSITE}
    run(chat, TWO_SIDED, **both, checkpoint=tmp_path / "c")
    with pytest.raises(TrainingError, match="belongs to another run"):
        run(chat, replace(TWO_SIDED, **change), **{**both, **other}, checkpoint=tmp_path / "c")


def test_a_checkpoint_from_before_there_were_parts_goes_on(chat: Any, tmp_path: Path) -> None:
    path = tmp_path / "c"
    run(chat, CONFIG, checkpoint=path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    record = json.loads(metadata["record"])
    del record["parts"]
    save_file(load_file(path), path, {**metadata, "record": json.dumps(record)})
    assert_same(run(chat, CONFIG, checkpoint=path), run(chat, CONFIG))


@pytest.mark.parametrize("n", [1, 4, 7, 70])
def test_other_data_are_drawn_once_each_before_any_is_drawn_again(chat: Any, n: int) -> None:
    rows = encode_examples(chat, (EXAMPLES * 6)[:n])
    each = -(-n // CONFIG.batch_size)
    batches = [drawn(rows, CONFIG, step, "kept") for step in range(3 * each)]
    for start in range(0, 3 * each, each):
        assert Counter(i for batch in batches[start : start + each] for i in batch) == Counter(range(n))
    assert batches == [drawn(rows, CONFIG, step, "kept") for step in range(3 * each)]
    if n == 70:
        assert batches[:each] != batches[each : 2 * each]
        assert batches != [drawn(rows, replace(CONFIG, seed=1), step, "kept") for step in range(3 * each)]
        assert batches != [drawn(rows, CONFIG, step, "opposite") for step in range(3 * each)]
        assert batches[:each] != schedule(rows, CONFIG)[:each]


def test_objectives_neither_read_nor_move_the_global_random_state_and_leave_the_model(chat: Any) -> None:
    config, other = RUNS["all at once"]
    before = {name: value.clone() for name, value in chat.original_model.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = run(chat, config, **other)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert_same(first, run(chat, config, **other))
    for name, value in chat.original_model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(p.requires_grad or p.grad is not None for p in chat.original_model.parameters())


@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
def test_gates_of_every_kind_take_every_objective(chat: Any, kind: dict[str, Any]) -> None:
    config, other = RUNS["all at once"]
    record = run(chat, config, GateSet.identity(chat, **kind), **other)[1]
    assert record.gate_activity[-1] > 0


@pytest.mark.parametrize(
    ("config", "other", "message"),
    [
        (CONTRASTIVE, dict(), r"contrastive needs data to keep.*pass kept="),
        (CONTRASTIVE, dict(kept=KEPT, opposite=OPPOSITE), r"contrastive does not use opposite answers.*9 in opposite"),
        (TWO_SIDED, dict(), r"two-sided needs answers for strength -1.*pass opposite="),
        (TWO_SIDED, dict(kept=KEPT), r"two-sided needs answers for strength -1"),
        (CONFIG, dict(kept=KEPT), r"imitate keeps nothing.*7 in kept.*objective='contrastive'"),
        (CONFIG, dict(opposite=OPPOSITE), r"imitate does not use opposite answers.*objective='two-sided'"),
        (replace(TWO_SIDED, kl_weight=3.0), dict(opposite=OPPOSITE), r"no KL to weigh.*kl_weight 3"),
    ],
)
def test_data_that_an_objective_lacks_or_does_not_use_are_refused(
    chat: Any, config: TrainConfig, other: dict[str, Any], message: str
) -> None:
    gates = GateSet.identity(chat)
    with pytest.raises(InputError, match=message):
        run(chat, config, gates, **other)
    assert gates.history == {}


def test_other_data_that_cannot_be_used_are_named_by_list_and_number(chat: Any) -> None:
    with pytest.raises(DataError, match=r"kept example 7: .*longer than the model's context"):
        run(chat, CONTRASTIVE, kept=[*KEPT, said("a", "z" * 300)])
    with pytest.raises(DataError, match=r"opposite example 0: .*longer than the model's context"):
        run(chat, TWO_SIDED, opposite=[said("a", "z" * 300)])


def test_kept_data_that_are_not_finite_leave_the_gates_as_they_were(
    tmp_path: Path, tiny_chat_model: Callable[..., Any]
) -> None:
    model = tiny_chat_model(tmp_path / "model")
    rare = encode_examples(model, [said("☃", "a")])[0].prompt
    common = {i for row in encode_examples(model, EXAMPLES) for i in row.prompt + row.answers[0]}
    with torch.no_grad():
        model.original_model.get_input_embeddings().weight[[i for i in rare if i not in common]] = float("nan")
    gates = GateSet.identity(model)
    with pytest.raises(TrainingError, match=r"loss \(kl\) is not finite at step 0.*kept examples \[0\].*lower lr"):
        run(model, CONTRASTIVE, gates, kept=[said("☃", "a")])
    for name, value in GateSet.identity(model).state_dict().items():
        assert torch.equal(gates.state_dict()[name], value), name
