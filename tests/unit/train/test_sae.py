"""Laws of SAEs: planted directions are found, frozen ones stay, what is saved is what was measured, ablation is exact."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mechgate.data.pairs import Example
from mechgate.data.sets import asked, prose
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError, ModelError, StorageError
from mechgate.measure.activations import HOOKS, activations
from mechgate.measure.features import LatentDial, Sae, as_sae, feature_means, load_sae, loss_recovered
from mechgate.measure.generation import generate
from mechgate.measure.token_states import TokenStates
from mechgate.seeding import rng
from mechgate.train import sae as sae_module
from mechgate.train.sae import SaeSettings, sae_prompts, sae_quality, train_sae, train_saes

pytest.importorskip("sae_lens")

WIDTH, LATENTS = 32, 24
QUICK = SaeSettings(seed=0, d_sae=48, k=3, batch_size=64, epochs=12, lr=5e-3)
PROMPTS = [asked(text) for text in ("Is tea hot?", "Hi.", "What is rain made of, and why?")]


def planted(n: int = 3000) -> tuple[torch.Tensor, np.ndarray]:
    """Sums of three of 24 random directions each, and the directions."""
    stream = rng(0, "planted")
    directions = stream.standard_normal((LATENTS, WIDTH))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    active = np.zeros((n, LATENTS))
    for row in active:
        row[stream.choice(LATENTS, 3, replace=False)] = stream.uniform(1, 3, 3)
    return torch.from_numpy(active @ directions).bfloat16(), directions


def kept(folder: Path, states: torch.Tensor, layer: int = 1) -> TokenStates:
    path = folder / "part-00000.safetensors"
    texts = torch.arange(len(states)) // 10
    save_file({"tokens": torch.zeros(len(states), dtype=torch.int64), "texts": texts, f"layer-{layer}": states}, path)
    return TokenStates(folder=folder, parts=(path,), layers=(layer,), n=len(states), hash="planted")


@pytest.fixture(scope="module")
def trained(chat: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("sae")
    quality = train_sae(chat, kept(folder, planted()[0]), 1, QUICK, folder / "sae")
    return folder / "sae", quality


@pytest.fixture(scope="module")
def sae(chat: Any, trained: tuple[Path, Any]) -> Sae:
    return load_sae(trained[0], chat)


def matched(decoder: np.ndarray, directions: np.ndarray) -> float:
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True).clip(1e-9)
    return float((unit @ directions.T).max(axis=0).mean())


def test_planted_directions_are_found_and_a_frozen_decoder_does_not_find_them(
    chat: Any, sae: Sae, trained: tuple[Path, Any], tmp_path: Path
) -> None:
    states, directions = planted()
    assert trained[1].fvu < 0.1
    assert trained[1].l0 <= QUICK.k
    assert matched(sae.decoder, directions) > 0.9
    frozen = train_sae(chat, kept(tmp_path, states), 1, replace(QUICK, frozen_decoder=True), tmp_path / "sae")
    assert frozen.fvu > 2 * trained[1].fvu
    assert matched(load_sae(tmp_path / "sae", chat).decoder, directions) < 0.7


def test_jumprelu_is_trained_towards_as_many_active_latents(chat: Any, tmp_path: Path) -> None:
    settings = replace(QUICK, architecture="jumprelu")
    quality = train_sae(chat, kept(tmp_path, planted()[0]), 1, settings, tmp_path / "sae")
    assert quality.fvu < 0.3
    assert load_sae(tmp_path / "sae", chat).sae.cfg.architecture() == "jumprelu"


def test_seeds_decide_everything(chat: Any, trained: tuple[Path, Any], sae: Sae, tmp_path: Path) -> None:
    states = kept(tmp_path, planted()[0])
    torch.manual_seed(99)  # whatever the global generator was
    same, other = (train_sae(chat, states, 1, replace(QUICK, seed=s), tmp_path / str(s)) for s in (0, 1))
    assert same == trained[1] != other
    assert load_sae(tmp_path / "0", chat).hash == sae.hash != load_sae(tmp_path / "1", chat).hash
    assert json.loads((trained[0] / "mechgate.json").read_text())["quality"]["fvu"] == trained[1].fvu


def test_quality_is_what_a_slow_count_gives(sae: Sae) -> None:
    states = planted(200)[0]
    errors, totals, active, fired = 0.0, 0.0, 0, set()
    mean = states.float().mean(dim=0)
    for state in states.float():
        latents = sae.encode(state[None])[0]
        errors += float(((state - sae.reconstruct(state[None])[0]) ** 2).sum())
        totals += float(((state - mean) ** 2).sum())
        on = set(latents.nonzero()[:, 0].tolist())
        active, fired = active + len(on), fired | on
    found = sae_quality(sae, states, batch_size=64)
    assert (found.fvu, found.l0) == (pytest.approx(errors / totals, rel=1e-4), active / 200)
    assert found.dead == pytest.approx(1 - len(fired) / 48)


def test_means_are_of_tokens_that_are_encoded_one_by_one(chat: Any, sae: Sae) -> None:
    vectors: list[torch.Tensor] = []
    activations(chat, PROMPTS[:1], layers=[1], position="mean", transform=(lambda v: vectors.append(v) or v, 32))
    encoded = sae.encode(torch.cat(vectors))
    for position, expected in (("last", encoded[-1]), ("mean", encoded.mean(dim=0))):
        found = feature_means(chat, sae, PROMPTS, position=position, label=None)
        assert found.shape == (3, 48)
        np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-4)


def test_ablating_latents_takes_away_what_they_add_and_nothing_else(chat: Any, sae: Sae) -> None:
    states = activations(chat, PROMPTS, layers=[1])[:, 0]
    latents = sae.encode(torch.from_numpy(states))
    chosen = latents.sum(dim=0).topk(2).indices.tolist()
    with LatentDial(sae=sae, latents=tuple(chosen)).attached(chat, 1.0):
        after = activations(chat, PROMPTS, layers=[1])[:, 0]
    expected = states - latents[:, chosen].numpy() @ sae.decoder[chosen]
    np.testing.assert_allclose(after, expected, atol=1e-4)
    for latents_, strength in (((), 1.0), (tuple(chosen), 0.0)):
        with LatentDial(sae=sae, latents=latents_).attached(chat, strength):
            np.testing.assert_array_equal(activations(chat, PROMPTS, layers=[1])[:, 0], states)
    with pytest.raises(InputError, match="finite"), LatentDial(sae=sae, latents=(0,)).attached(chat, float("nan")):
        pass


def test_loss_recovered_is_1_for_an_sae_that_gives_back_everything(chat: Any) -> None:
    said = generate(
        chat, PROMPTS, max_new_tokens=24, label=None
    )  # what it says itself, it predicts better than nothing
    texts = [Example(messages=prompt, response=reply) for prompt, reply in zip(PROMPTS, said, strict=True)]

    class Perfect:
        cfg = type("Config", (), {"d_sae": 32})()

        def encode(self, states: torch.Tensor) -> torch.Tensor:
            return states

        def decode(self, active: torch.Tensor) -> torch.Tensor:
            return active

    assert loss_recovered(chat, Sae(sae=Perfect(), layer=1, name="x"), texts) == pytest.approx(1.0, abs=1e-4)
    Perfect.decode = lambda self, active: torch.zeros_like(active)  # type: ignore[method-assign]
    assert loss_recovered(chat, Sae(sae=Perfect(), layer=1, name="x"), texts) == pytest.approx(0.0, abs=1e-4)


def test_saes_that_do_not_fit_are_refused(chat: Any, sae: Sae, trained: tuple[Path, Any], tmp_path: Path) -> None:
    assert load_sae(trained[0], chat, layer=2).layer == 2
    other = sae.sae
    before = other.cfg.metadata.hook_name
    try:
        other.cfg.metadata.hook_name = "blocks.1.attn.hook_z"
        with pytest.raises(ModelError, match="residual stream"):
            as_sae(other, chat)
        other.cfg.metadata.hook_name = HOOKS["resid_post"].format(7)
        with pytest.raises(InputError, match="layer"):
            as_sae(other, chat)
    finally:
        other.cfg.metadata.hook_name = before
    for wrong in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(StorageError):
            load_sae(wrong, chat)
    states = kept(tmp_path, planted(100)[0])
    for change in ({"k": 0}, {"batch_size": 1000}, {"epochs": 0}, {"architecture": "relu"}):
        with pytest.raises(InputError):
            train_sae(chat, states, 1, replace(QUICK, **change), tmp_path / "x")
    with pytest.raises(StorageError, match="something else"):
        train_sae(chat, states, 1, QUICK, tmp_path)


def test_saes_of_seeds_and_a_frozen_one_are_trained_once_from_the_same_states(
    tiny_chat_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_chat_model(tmp_path / "model", max_position_embeddings=4096)
    monkeypatch.setattr(sae_module, "sae_prompts", lambda: PROMPTS)
    monkeypatch.setattr(sae_module, "prose", lambda: prose()[:2])
    asked_for: dict[str, Any] = dict(
        seeds=(0, 1), frozen=True, tokens=2000, d_sae=48, k=3, epochs=1, max_new_tokens=20, say=lambda text: None
    )
    found = train_saes(model, tmp_path / "saes", **asked_for)
    assert [path.name for path in found] == ["layer-1-seed-0", "layer-1-seed-1", "layer-1-frozen"]
    monkeypatch.setattr(sae_module, "train_sae", lambda *args, **options: pytest.fail("trained again"))
    assert train_saes(model, tmp_path / "saes", **asked_for) == found
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        train_saes(model, tmp_path / "saes", **{**asked_for, "k": 4})


def test_prompts_are_of_training_alone() -> None:
    shown = {str(messages) for messages in sae_prompts()}
    assert len(shown) == len(sae_prompts()) > 500
    assert not shown & {str(pair.messages) for pair in load_pairs("sycophancy", None, "test")}
