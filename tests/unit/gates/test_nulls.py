"""Laws of null gates: what each family keeps, whom it refuses, and what is written down about it."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mechgate.errors import InputError, ModelError
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import NeutralInputs, heads_a_group, neutral_inputs
from mechgate.gates.nulls import FAMILIES, UNMATCHED, null_gates
from mechgate.gates.storage import load_gates
from mechgate.model.prompts import Row, collate
from mechgate.testing import tiny_model

Shake = Callable[..., GateSet]
KINDS = [
    dict(),
    dict(rank=3),
    dict(input="static"),
    dict(granularity="head"),
    dict(granularity="head", rank=2),
    dict(granularity="layer"),
    dict(granularity="layer", input="static"),
    dict(layers=[1]),
]
SIGNS = ("row-sign", "head-sign", "layer-sign")
PERMUTATIONS = ("head-permutation", "group-permutation", "dimension-permutation", "layer-permutation")
ROWS = [Row(prompt=tuple(range(3, 3 + n)), answers=((7, 8, 9, 2)[k:], (11, 2))) for k, n in enumerate([9, 5, 7])]


def applies(family: str, kind: dict[str, Any]) -> bool:
    """Whether the family makes sense for gates of this kind (on a model with grouped queries)."""
    granularity = kind.get("granularity", "element")
    if family in ("head-sign", "head-permutation", "group-permutation", "head-dampener"):
        return granularity != "layer"
    if family == "dimension-permutation":
        return granularity == "element"
    if family in ("haar", "other-prompt", "static-mean"):
        return kind.get("input") != "static"
    return family != "layer-permutation" or "layers" not in kind


def cases(*families: str) -> pytest.MarkDecorator:
    """The families with the kinds of gates that they make sense for; a test that takes `gates` gets that kind."""
    found = [(family, kind) for family in families for kind in KINDS if applies(family, kind)]
    return pytest.mark.parametrize(("family", "kind"), found, ids=str)


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture
def gates(kind: dict[str, Any], llama: Any, shaken: Shake) -> GateSet:
    """Learned-looking gates of several kinds."""
    return shaken(GateSet.identity(llama, **kind), size=0.7)


@pytest.fixture
def whole(llama: Any, shaken: Shake) -> GateSet:
    """Learned-looking full element gates."""
    return shaken(GateSet.identity(llama), size=0.7)


@pytest.fixture(scope="module")
def inputs(llama: Any) -> NeutralInputs:
    """Neutral tokens of the tiny Llama, ready for many draws."""
    return neutral_inputs(llama, collate(ROWS))


def signs(gates: GateSet, null: GateSet) -> torch.Tensor:
    return torch.cat([null.gate(n).bias.detach() / gates.gate(n).bias.detach() for n in gates.layers])


def state(gates: GateSet) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in gates.state_dict().items()}


def some(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(seed))


def product(gates: GateSet, layer: int) -> torch.Tensor:
    gate = gates.gate(layer)
    if gate.weight is not None:
        return gate.weight.detach()
    assert gate.up is not None
    assert gate.down is not None
    return (gate.up @ gate.down).detach()


def sorted_rows(rows: torch.Tensor) -> torch.Tensor:
    return rows.flatten(0, -2)[rows.flatten(0, -2).norm(dim=-1).argsort()]


# What the families keep


@cases(*SIGNS)
def test_sign_flips_keep_the_size_of_every_gate_exactly_for_equal_inputs(gates: GateSet, family: str) -> None:
    null = null_gates(gates, family=family, seed=0)
    for seed in range(3):
        x = some(seed)
        for layer in gates.layers:
            learned, drawn = gates.gate(layer).delta(x), null.gate(layer).delta(x)
            assert torch.equal(learned.abs(), drawn.abs())
            assert learned.abs().max() > 0.1


@pytest.mark.parametrize("granularity", ["element", "head"])
def test_signs_are_flipped_for_whole_units_heads_and_layers(llama: Any, granularity: str, shaken: Shake) -> None:
    gates, x = shaken(GateSet.identity(llama, granularity)), some()
    learned = torch.stack([gates.gate(n).delta(x) for n in gates.layers])
    for family, parts in (("row-sign", learned.shape[-1]), ("head-sign", 4), ("layer-sign", 1)):
        drawn = []
        for seed in range(4):
            null = null_gates(gates, family=family, seed=seed)
            flipped = signs(gates, null).reshape(3, 1, 1, -1)
            assert torch.equal(torch.stack([null.gate(n).delta(x) for n in null.layers]), learned * flipped)
            assert (flipped.reshape(3, parts, -1).diff(dim=-1) == 0).all()
            drawn.append(flipped)
        assert set(torch.stack(drawn).unique().tolist()) == {-1.0, 1.0}


def test_signs_are_fair_and_independent_between_seeds(whole: GateSet) -> None:
    draws = torch.stack([signs(whole, null_gates(whole, family="row-sign", seed=s)) for s in range(40)])
    assert draws.mean().abs() < 4 / draws.numel() ** 0.5
    correlation = draws @ draws.T / draws.shape[1]
    assert (correlation - torch.eye(40)).abs().max() < 5 / draws.shape[1] ** 0.5


@pytest.mark.parametrize("family", SIGNS)
def test_the_papers_inversion_is_the_all_minus_member(llama: Any, tokens: Any, shaken: Shake, family: str) -> None:
    # Few signs have few members; one of the first draws is the all-minus one.
    kinds = {"row-sign": dict(granularity="layer"), "head-sign": dict(granularity="head", layers=[1])}
    gates = shaken(GateSet.identity(llama, **kinds.get(family, {})))
    nulls = (null_gates(gates, family=family, seed=seed) for seed in range(200))
    minus = next(null for null in nulls if (signs(gates, null) == -1).all())
    with torch.no_grad():
        with minus.attached(llama):
            drawn = llama(tokens)
        with gates.negated().attached(llama):
            assert torch.equal(llama(tokens), drawn)


@cases("head-permutation", "group-permutation", "dimension-permutation")
def test_permutations_within_layers_keep_the_rows_of_each_layer(gates: GateSet, family: str, llama: Any) -> None:
    null, moved = null_gates(gates, family=family, seed=1, model=llama), 0
    for layer in gates.layers:
        for before, after in zip(gates.gate(layer).rows(), null.gate(layer).rows(), strict=True):
            before, after = before.detach().reshape(len(before), -1), after.detach().reshape(len(before), -1)
            assert torch.equal(sorted_rows(before), sorted_rows(after))
            moved += int((before != after).any())
    assert moved
    # Rows of W move with their b: the units' gates are those of the learned gate in another order.
    x = some()
    for layer in gates.layers:
        learned, drawn = gates.gate(layer).delta(x), null.gate(layer).delta(x)
        torch.testing.assert_close(learned.sort(dim=-1).values, drawn.sort(dim=-1).values, atol=1e-6, rtol=0)


def test_each_permutation_moves_only_within_its_block(bridge: Any, shaken: Shake) -> None:
    gates = shaken(GateSet.identity(bridge))
    heads, d_head, group = 4, gates.shape.d_head, heads_a_group(bridge)
    blocks = {"head-permutation": 1, "dimension-permutation": heads} | (
        {"group-permutation": heads // group} if group > 1 else {}
    )
    for family, n_blocks in blocks.items():
        null = null_gates(gates, family=family, seed=1, model=bridge)
        for layer in gates.layers:
            before, after = (g.gate(layer).bias.detach().reshape(n_blocks, -1) for g in (gates, null))
            assert torch.equal(before.sort(dim=-1).values, after.sort(dim=-1).values)
            if family != "dimension-permutation":  # heads stay whole, in their inner order
                before, after = before.reshape(heads, d_head), after.reshape(heads, d_head)
                assert {tuple(h.tolist()) for h in before} == {tuple(h.tolist()) for h in after}


def test_group_permutation_needs_groups(shaken: Shake) -> None:
    gpt2 = tiny_model("gpt2")
    assert heads_a_group(gpt2) == 1
    assert heads_a_group(tiny_model("qwen2")) == 2
    gates = shaken(GateSet.identity(gpt2))
    with pytest.raises(InputError, match=r"group-permutation family makes no sense.*1 head that shares"):
        null_gates(gates, family="group-permutation", seed=0, model=gpt2)
    with pytest.raises(InputError, match=r"which heads share keys and values.*pass model"):
        null_gates(gates, family="group-permutation", seed=0)


def test_layer_permutation_deals_out_the_learned_layers(whole: GateSet) -> None:
    orders = set()
    for seed in range(40):
        null = null_gates(whole, family="layer-permutation", seed=seed)
        orders.add(tuple(next(n for n in range(3) if null.gate(m).bias.equal(whole.gate(n).bias)) for m in range(3)))
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len(orders) == 6


@cases("haar")
def test_haar_keeps_the_spectrum_and_turns_the_vectors(gates: GateSet, family: str, inputs: NeutralInputs) -> None:
    null = null_gates(gates, family=family, seed=0, batch=inputs)
    for layer, alpha in zip(null.layers, null.history["matching"]["alpha"], strict=True):
        before, after = product(gates, layer), product(null, layer) / alpha
        values = torch.linalg.svdvals(before), torch.linalg.svdvals(after)
        torch.testing.assert_close(*values, atol=1e-5 * float(values[0][0]), rtol=1e-5)
        b, turned = gates.gate(layer).bias.detach(), null.gate(layer).bias.detach() / alpha
        torch.testing.assert_close(turned.norm(), b.norm(), atol=1e-5, rtol=1e-5)
        # b keeps its place among the left singular vectors, which are turned with it.
        torch.testing.assert_close((before.T @ b).norm(), (after.T @ turned).norm(), atol=1e-4, rtol=1e-4)
        cosine = (before * after).sum() / (before.norm() * after.norm())
        assert cosine.abs() < 0.6


def test_haar_directions_are_uniform(whole: GateSet, inputs: NeutralInputs) -> None:
    tops = []
    for seed in range(60):
        null = null_gates(whole, family="haar", seed=seed, batch=inputs)
        tops.append(torch.linalg.svd(product(null, 1))[2][0])
    stacked = torch.stack(tops)
    second = stacked.T @ stacked / len(stacked)  # of uniform unit vectors: I / 32
    assert abs(float((stacked @ torch.linalg.svd(product(whole, 1))[2][0]).pow(2).mean()) - 1 / 32) < 0.03
    assert second.diagonal().max() < 0.08


def test_gaussian_entries_have_the_learned_proportion_of_weight_to_bias(whole: GateSet, inputs: Any) -> None:
    null = null_gates(whole, family="gaussian", seed=0, batch=inputs)
    for layer in whole.layers:
        ratio = [product(g, layer).pow(2).mean() / g.gate(layer).bias.detach().pow(2).mean() for g in (whole, null)]
        assert 0.5 < float(ratio[0] / ratio[1]) < 2


@cases("static-mean")
def test_static_mean_has_each_units_mean(gates: GateSet, family: str, inputs: NeutralInputs) -> None:
    null = null_gates(gates, family=family, seed=0, batch=inputs)
    assert (null.input, null.granularity, null.rank) == ("static", gates.granularity, None)
    for layer, alpha in zip(null.layers, null.history["matching"]["alpha"], strict=True):
        mean = gates.gate(layer).delta(inputs.x[layer]).mean(dim=0)
        torch.testing.assert_close(torch.tanh(null.gate(layer).bias / alpha / 2), mean, atol=1e-5, rtol=1e-4)
        assert alpha >= 1  # a mean is smaller than what it is the mean of


@cases("dampener", "head-dampener")
def test_dampeners_are_one_minus_rms(gates: GateSet, family: str, inputs: NeutralInputs) -> None:
    null = null_gates(gates, family=family, seed=0, batch=inputs)
    assert (null.granularity, null.input) == ("layer" if family == "dampener" else "head", "static")
    for layer in gates.layers:
        delta, units = gates.gate(layer).delta(inputs.x[layer]), len(null.gate(layer).bias)
        rms = delta.unflatten(-1, (units, -1)).pow(2).mean(dim=(0, 2)).sqrt()
        torch.testing.assert_close(null.gate(layer)(some()), (1 - rms).expand(2, 7, units), atol=1e-6, rtol=0)
    assert null.history["matching"]["alpha"] == [1.0] * len(gates.layers)


# All families


@pytest.mark.parametrize("match", ["gate", "output"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_makes_a_matched_null_or_says_why_not(
    gates: GateSet, kind: dict[str, Any], family: str, match: str, inputs: NeutralInputs, llama: Any, tokens: Any
) -> None:
    before, history = state(gates), copy.deepcopy(gates.history)
    if not applies(family, kind):
        with pytest.raises(InputError, match=f"the {family} family makes no sense for these gates.*Allowed"):
            null_gates(gates, family=family, seed=0, batch=inputs, match=match)
        return
    null = null_gates(gates, family=family, seed=0, batch=inputs, match=match)
    report = null.history["matching"]
    assert report["largest_mismatch"] <= 1e-3
    assert (report["match"], report["tokens"], report["layers"]) == (match, inputs.n_tokens, list(gates.layers))
    assert json.loads(json.dumps(null.history)) == null.history
    assert null.layers == gates.layers
    assert not any(parameter.requires_grad for parameter in null.parameters())
    with torch.no_grad():
        base = llama(tokens)
        with null.attached(llama, 0.0):
            assert torch.equal(llama(tokens), base)
        with null.attached(llama):
            assert not torch.equal(llama(tokens), base)
        for parameter in null.parameters():
            parameter.zero_()
    after = gates.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in gates.parameters())
    assert gates.history == history


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_draw_depends_on_its_seed_only(whole: GateSet, family: str, inputs: NeutralInputs) -> None:
    torch.manual_seed(1)
    first = null_gates(whole, family=family, seed=3, batch=inputs)
    torch.manual_seed(2)
    again = null_gates(copy.deepcopy(whole), family=family, seed=3, batch=inputs)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    others = [null_gates(whole, family=family, seed=seed, batch=inputs) for seed in range(4, 8)]
    same = [all(map(torch.equal, first.state_dict().values(), other.state_dict().values())) for other in others]
    assert all(same) != FAMILIES[family].seeded


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_null_of_the_inversion_is_the_inverted_null(
    whole: GateSet, family: str, inputs: NeutralInputs, llama: Any, tokens: Any
) -> None:
    null, other = (null_gates(g, family=family, seed=1, batch=inputs) for g in (whole, whole.negated()))
    assert other.scale == -1.0
    with torch.no_grad():
        with other.attached(llama):
            drawn = llama(tokens)
        with null.attached(llama, -1.0):
            assert torch.equal(llama(tokens), drawn)


@pytest.mark.parametrize("family", [*SIGNS, *PERMUTATIONS])
def test_sign_flips_and_permutations_do_without_activations(whole: GateSet, family: str, llama: Any) -> None:
    null = null_gates(whole, family=family, seed=5, model=llama)
    assert null.history["matching"] == UNMATCHED == "unmatched (no activations given)"


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {*SIGNS, *PERMUTATIONS}))
def test_families_that_need_activations_say_so(whole: GateSet, family: str, llama: Any) -> None:
    settings: list[dict[str, Any]] = [dict(), dict(model=llama), dict(batch=collate(ROWS))]
    for given in settings:
        with pytest.raises(InputError, match=rf"{family} family.*needs activations.*pass model=\.\.\. and batch"):
            null_gates(whole, family=family, seed=0, **given)
    with pytest.raises(InputError, match="matched on the output, needs activations"):
        null_gates(whole, family="row-sign", seed=0, match="output")


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "other-prompt"])
def test_nulls_and_their_origin_survive_a_file(whole: GateSet, family: str, inputs: Any, tmp_path: Any) -> None:
    null = null_gates(whole, family=family, seed=2, batch=inputs)
    again = load_gates(null.save(tmp_path / "null.safetensors"))
    assert again.history == null.history
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in null.state_dict().items())


def test_a_null_says_what_it_is(gates: GateSet) -> None:
    gates.history = {"config": {"objective": "nll"}}
    null = null_gates(gates.negated(), family="row-sign", seed=5)
    assert null.history == {
        "null": "row-sign null, seed 5",
        "family": "row-sign",
        "seed": 5,
        "of": {"config": {"objective": "nll"}},
        "matching": UNMATCHED,
    }
    assert "row-sign null, seed 5" in repr(null)
    assert null.scale == -1.0
    assert null.layers == gates.layers


@pytest.mark.parametrize(
    ("family", "hint"), [("row-sgin", "did you mean 'row-sign'"), ("zzz", "row-sign"), (None, "row-sign")]
)
def test_an_unknown_family_is_refused_naming_those_there_are(whole: GateSet, family: Any, hint: str) -> None:
    with pytest.raises(InputError, match=rf"family is not one of.*{hint}"):
        null_gates(whole, family=family, seed=0)


def test_what_does_not_fit_is_refused(whole: GateSet, llama: Any, inputs: NeutralInputs) -> None:
    with pytest.raises(InputError, match=r"match is not one of.*gate, output"):
        null_gates(whole, family="gaussian", seed=0, batch=inputs, match="weights")
    other = tiny_model("llama", head_dim=8)
    with pytest.raises(ModelError, match="another shape"):
        null_gates(whole, family="gaussian", seed=0, model=other, batch=collate(ROWS))
    with pytest.raises(InputError, match=r"model of another shape.*d_head"):
        null_gates(whole, family="gaussian", seed=0, batch=neutral_inputs(other, collate(ROWS)))
    with pytest.raises(InputError, match=r"lack layers.*Got: \[1, 2\]"):
        null_gates(whole, family="gaussian", seed=0, batch=neutral_inputs(llama, collate(ROWS), [0]))
    donor = null_gates(whole, family="other-prompt", seed=0, batch=inputs)
    with pytest.raises(InputError, match="parameters of their own"):
        null_gates(donor, family="row-sign", seed=0)
