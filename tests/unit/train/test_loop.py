"""Laws of the training loop's parts: the order of examples, the learning rate, the loss and its gradient."""

import random
from collections import Counter
from collections.abc import Callable
from math import ceil, inf, nan
from typing import Any

import pytest
import torch

from mechgate.data.pairs import Example
from mechgate.errors import DataError, InputError, ModelError, TrainingError
from mechgate.gates.gateset import GateSet
from mechgate.model.prompts import Row, collate, encode
from mechgate.train.loop import TrainConfig, encode_examples, lr_factor, response_loss, schedule

SIZES = pytest.mark.parametrize(("n", "batch_size"), [(1, 1), (7, 3), (8, 8), (5, 16), (100, 2), (301, 4)])
USER = {"role": "user", "content": "Is the capital of Italy Rome?"}


def rows_of(n: int, seed: int = 0) -> list[Row]:
    """Rows of 2 to 120 tokens."""
    draw = random.Random(seed)
    return [Row(prompt=(1,) * draw.randint(1, 80), answers=((2,) * draw.randint(1, 40),)) for _ in range(n)]


def chats(prefix: int, seed: int = 0) -> list[Row]:
    """Ragged rows with one answer each: prompts of 1 to 9 tokens behind `prefix` shared ones."""
    draw = random.Random(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, 128) for _ in range(n))

    shared = ids(prefix)
    return [Row(prompt=shared + ids(p), answers=(ids(a),)) for p, a in [(4, 7), (9, 1), (1, 12), (6, 3)]]


def padding(rows: list[Row], batches: list[list[int]]) -> int:
    """Tokens of padding in all batches."""
    return sum(max(len(rows[i]) for i in b) * len(b) - sum(len(rows[i]) for i in b) for b in batches)


def slow_loss(model: Any, rows: list[Row]) -> torch.Tensor:
    """One forward of Hugging Face's own a row, all logits, cross-entropy at every answer token, then the mean."""
    losses = []
    for row in rows:
        (answer,), n = row.answers, len(row.prompt)
        logits = model.original_model(input_ids=torch.tensor([row.prompt + answer])).logits[0]
        losses.append(
            torch.nn.functional.cross_entropy(logits[n - 1 : -1].float(), torch.tensor(answer), reduction="none")
        )
    return torch.cat(losses).mean()


@SIZES
@pytest.mark.parametrize("epochs", [1, 3])
def test_every_epoch_holds_every_example_once_in_as_few_batches_as_possible(
    n: int, batch_size: int, epochs: int
) -> None:
    steps = schedule(rows_of(n), TrainConfig(seed=0, epochs=epochs, batch_size=batch_size))
    each = ceil(n / batch_size)
    assert len(steps) == epochs * each
    assert max(map(len, steps)) <= batch_size
    for epoch in range(epochs):
        seen = Counter(i for batch in steps[epoch * each : (epoch + 1) * each] for i in batch)
        assert seen == Counter(range(n))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    rows = rows_of(100)
    two, again = (schedule(rows, TrainConfig(seed=3, epochs=2)) for _ in range(2))
    assert two == again
    assert two[: len(two) // 2] == schedule(rows, TrainConfig(seed=3, epochs=1))
    assert two[: len(two) // 2] != two[len(two) // 2 :]
    assert two != schedule(rows, TrainConfig(seed=4, epochs=2))


def test_what_is_batched_together_changes_with_the_epoch() -> None:
    steps = schedule(rows_of(300), TrainConfig(seed=0, epochs=2))
    half = len(steps) // 2
    assert {frozenset(batch) for batch in steps[:half]} != {frozenset(batch) for batch in steps[half:]}


def test_the_order_does_not_run_from_long_to_short() -> None:
    rows = rows_of(100)  # few enough to be sorted together
    lengths = [len(rows[batch[0]]) for batch in schedule(rows, TrainConfig(seed=0, epochs=1))]
    assert lengths != sorted(lengths)
    assert lengths != sorted(lengths, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_batches_hold_similar_lengths(seed: int) -> None:
    rows = rows_of(300, seed)
    steps = schedule(rows, TrainConfig(seed=seed, epochs=1))
    order = [i for batch in steps for i in batch]
    random.Random(seed).shuffle(order)
    assert padding(rows, steps) < padding(rows, [order[i : i + 8] for i in range(0, 300, 8)]) / 3


@pytest.mark.parametrize(("n", "warmup"), [(1, 0.0), (1, 0.9), (10, 0.0), (10, 0.1), (40, 0.25), (97, 0.5), (5, 0.99)])
def test_the_learning_rate_rises_to_its_full_value_and_falls_towards_zero_in_straight_lines(
    n: int, warmup: float
) -> None:
    factors = [lr_factor(step, n, warmup) for step in range(n)]
    rise = max(1, round(warmup * n))
    assert all(0 < factor <= 1 for factor in factors)
    assert [step for step, factor in enumerate(factors) if factor == 1] == [rise - 1]
    assert factors[:rise] == pytest.approx([(step + 1) / rise for step in range(rise)])
    fall = n - rise + 1  # steps from the peak to where the line meets 0, which is the step after the last
    assert factors[rise - 1 :] == pytest.approx([1 - step / fall for step in range(fall)])


@pytest.mark.parametrize("value", [0, -1, inf, -inf, nan])
@pytest.mark.parametrize("name", ["epochs", "batch_size", "lr", "clip"])
def test_settings_that_must_be_positive_are_refused_otherwise(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{name}': {value}.*epochs, batch_size, lr, clip > 0"):
        TrainConfig(seed=0, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.5, 2.0])
@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_settings_that_count_are_refused_unless_whole(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{name}': {value}"):
        TrainConfig(seed=0, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warmup", -0.1),
        ("warmup", 1),
        ("warmup", nan),
        ("weight_decay", -1e-9),
        ("weight_decay", inf),
        ("kl_weight", -1),
        ("kl_weight", nan),
        ("sparsity", -0.1),
        ("sparsity", inf),
    ],
)
def test_settings_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{name}': {value}.*0 <= warmup < 1; weight_decay >= 0; kl_weight"):
        TrainConfig(seed=0, **{name: value})  # type: ignore[arg-type]


def test_an_unknown_objective_is_refused_by_near_miss() -> None:
    with pytest.raises(InputError, match=r"objective.*'immitate'.*did you mean 'imitate'"):
        TrainConfig(seed=0, objective="immitate")


def test_imitation_has_no_kl_to_weigh() -> None:
    with pytest.raises(InputError, match=r"imitate has no KL to weigh.*kl_weight 2"):
        TrainConfig(seed=0, kl_weight=2)


def test_settings_need_a_seed() -> None:
    with pytest.raises(TypeError, match="seed"):
        TrainConfig()  # type: ignore[call-arg]


def test_the_papers_settings_are_those_of_the_paper() -> None:
    paper = TrainConfig.paper(seed=5)
    assert (paper.seed, paper.lr, paper.batch_size, paper.epochs) == (5, 1e-4, 2, 2)


@pytest.mark.parametrize("prefix", [0, 11], ids=["no prefix", "shared prefix"])
@pytest.mark.parametrize("kind", [dict(), dict(granularity="head", rank=2), dict(input="static")], ids=str)
def test_loss_and_gradient_are_those_of_the_slow_computation(
    bridge: Any, prefix: int, kind: dict[str, Any], shaken: Callable[..., GateSet]
) -> None:
    rows = chats(prefix)
    batch = collate(rows)
    assert batch.prefix == prefix
    gates = shaken(GateSet.identity(bridge, **kind), size=0.3).requires_grad_(True)
    with gates.attached(bridge):
        loss, expected = response_loss(bridge, batch), slow_loss(bridge, rows)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    parameters = dict(gates.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()))
    wanted = torch.autograd.grad(expected, list(parameters.values()))
    for name, mine, slow in zip(parameters, found, wanted, strict=True):
        assert slow.norm() > 1e-4, name
        assert (mine - slow).norm() / slow.norm() < 1e-5, name


def test_the_loss_is_the_mean_over_tokens_and_not_over_examples(llama: Any) -> None:
    rows = chats(0)
    with torch.no_grad():
        each = [response_loss(llama, collate([row])).item() for row in rows]
        loss = response_loss(llama, collate(rows)).item()
    counts = [len(row.answers[0]) for row in rows]
    assert loss == pytest.approx(sum(x * n for x, n in zip(each, counts, strict=True)) / sum(counts), abs=1e-5)
    assert abs(loss - sum(each) / len(each)) > 1e-3


def test_examples_become_the_rows_that_are_measured(chat: Any) -> None:
    examples = [Example(messages=(USER,), response=text) for text in ("Yes.", "No, it is not.")]
    assert encode_examples(chat, examples) == [encode(chat, (USER,), [e.response]) for e in examples]


def test_no_examples_are_nothing_to_train_on(chat: Any) -> None:
    with pytest.raises(TrainingError, match=r"nothing to train on.*no examples"):
        encode_examples(chat, [])


def test_an_example_that_is_too_long_is_named_by_its_number(chat: Any) -> None:
    good = Example(messages=(USER,), response="Yes.")
    long = Example(messages=(USER,), response="z" * 300)
    with pytest.raises(DataError, match=r"training example 2: .*longer than the model's context.*at most 256 tokens"):
        encode_examples(chat, [good, good, long])


def test_a_model_that_takes_ids_only_cannot_be_trained(llama: Any) -> None:
    with pytest.raises(ModelError, match="without a tokenizer"):
        encode_examples(llama, [Example(messages=(USER,), response="Yes.")])
