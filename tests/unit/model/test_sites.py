"""Laws of where gates read and write."""

from typing import Any

import pytest
import torch

from mechgate.errors import InputError, ModelError
from mechgate.gates.gateset import GateSet
from mechgate.model.hooking import resolve
from mechgate.model.loading import load_model
from mechgate.model.sites import Shape, Site, all_sites, check_gateable, is_post_norm, shape_of
from mechgate.testing import tiny_hf, tiny_model


@pytest.mark.parametrize("layer", [0, 1, 9, 10, 123])
def test_hook_names_round_trip(layer: int) -> None:
    site = Site(layer)
    assert Site.of_hook(site.read) == site
    assert Site.of_hook(site.write) == site


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.attn.hook_q",
        "blocks.0.ln1.hook_normalized",
        "blocks.x.attn.hook_z",
        "blocks.-1.attn.hook_z",
        "blocks.0.attn.hook_z.more",
        "xblocks.0.attn.hook_z",
        "",
    ],
)
def test_a_hook_point_that_gates_do_not_use_is_no_site(name: str) -> None:
    with pytest.raises(InputError, match=r"not a hook point that gates use.*blocks\.L\.attn\.hook_z"):
        Site.of_hook(name)


def test_all_sites_are_the_layers_in_order_and_exist_on_every_architecture(bridge: Any) -> None:
    sites = all_sites(bridge)
    assert sites == tuple(Site(layer) for layer in range(bridge.cfg.n_layers))
    resolve(bridge, [name for site in sites for name in (site.read, site.write)])


def test_chosen_layers_come_back_in_order_and_the_list_is_not_changed(llama: Any) -> None:
    layers = [2, 0]
    assert all_sites(llama, layers) == (Site(0), Site(2))
    assert layers == [2, 0]


@pytest.mark.parametrize("layers", [[3], [-1], [0, 7], [], [1, 1]])
def test_layers_that_are_not_there_or_not_different_are_refused(llama: Any, layers: list[int]) -> None:
    with pytest.raises(InputError, match=r"different layer numbers.*0 to 2"):
        all_sites(llama, layers)


def test_the_shape_is_that_of_z_and_of_the_gates_input(bridge: Any, tokens: torch.Tensor) -> None:
    shape, site = shape_of(bridge), Site(1)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens)
    assert cache[site.write].shape[-2:] == (shape.n_heads, shape.d_head)
    assert cache[site.read].shape[-1] == shape.d_model
    assert shape.d_z == shape.n_heads * shape.d_head
    assert shape.n_layers == 3


def test_a_gate_reads_the_output_of_the_norm_with_its_weight(tiny: Any, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        tiny.blocks[1].ln1.original_component.weight.add_(0.5)
        _, cache = tiny.run_with_cache(tokens)
    read = cache[Site(1).read]
    assert torch.equal(read, cache["blocks.1.ln1.hook_out"])
    assert not torch.allclose(read, cache["blocks.1.ln1.hook_normalized"])


def test_differences_of_shapes_are_said_in_words() -> None:
    a = Shape(n_layers=3, n_heads=4, d_head=16, d_model=32)
    b = Shape(n_layers=2, n_heads=4, d_head=8, d_model=32)
    assert a.differences(a) == []
    assert a.differences(b) == ["n_layers 3 against 2", "d_head 16 against 8"]


def test_olmo2_is_refused_unless_asked_for() -> None:
    with pytest.raises(ModelError, match=r"Olmo2ForCausalLM has no norm before attention.*allow_post_norm=True"):
        load_model(tiny_hf("olmo2"))
    model = tiny_model("olmo2")
    assert is_post_norm(model)
    with pytest.raises(ModelError, match="no norm before attention"):
        check_gateable(model)
    check_gateable(model, allow_post_norm=True)


def test_olmo2_gates_read_the_raw_residual_stream(tokens: torch.Tensor) -> None:
    model = tiny_model("olmo2")
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        base = model(tokens)
        with GateSet.identity(model).attached(model):
            assert torch.equal(model(tokens), base)
    assert torch.equal(cache[Site(1).read], cache["blocks.1.hook_in"])


def test_supported_architectures_have_a_norm_before_attention(bridge: Any) -> None:
    assert not is_post_norm(bridge)
    check_gateable(bridge)


def test_a_model_with_folded_weights_is_refused() -> None:
    model = tiny_model()
    gates = GateSet.identity(model)
    model.enable_compatibility_mode()
    for use in (check_gateable, GateSet.identity, gates.check_fits, gates.fwd_hooks):
        with pytest.raises(ModelError, match=r"folded.*load it again"):
            use(model)


def test_compatibility_names_without_folding_are_accepted(tokens: torch.Tensor) -> None:
    model = tiny_model()
    gates = GateSet.identity(model)
    with torch.no_grad():
        base = model(tokens)
        model.enable_compatibility_mode(no_processing=True)
        with gates.attached(model):
            assert torch.equal(model(tokens), base)


@pytest.mark.parametrize(
    ("thing", "name"), [(None, "NoneType"), ("llama", "str"), (torch.nn.Linear(2, 2), "Linear"), (dict(), "dict")]
)
def test_what_is_no_bridge_is_refused_by_name(thing: Any, name: str) -> None:
    with pytest.raises(ModelError, match=rf"works on a TransformerBridge.*Got: {name}.*load_model"):
        check_gateable(thing)


def test_a_hugging_face_model_is_no_bridge_yet() -> None:
    with pytest.raises(ModelError, match=r"LlamaForCausalLM.*load_model"):
        GateSet.identity(tiny_hf())
