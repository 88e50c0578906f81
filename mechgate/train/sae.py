"""Training SAEs on kept states of the residual stream, by sae-lens' own trainer: the usual kind, or decoders left random."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Message
from mechgate.data.sets import asked, prose, questions, split_chat
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError, ModelError, StorageError, check_choice
from mechgate.measure.features import Sae, as_sae
from mechgate.measure.token_states import TokenStates, generated_states
from mechgate.model.loading import describe
from mechgate.model.sites import shape_of
from mechgate.progress import track
from mechgate.provenance import check_writable, provenance, write_json
from mechgate.seeding import rng, stream_seed

RECORD_FILE = "mechgate.json"
ARCHITECTURES = ("topk", "jumprelu")
HELD_OUT = 0.05
"""Share of the texts that quality is measured on."""


@dataclass(frozen=True, kw_only=True)
class SaeSettings:
    """`d_sae` latents, of which `k` are active (TopK) or aimed at (JumpReLU); `frozen_decoder` leaves the decoder's random
    directions as they are: a control that knows the states' statistics but learned no directions."""

    seed: int
    d_sae: int = 4608
    architecture: str = "topk"
    k: int = 32
    lr: float = 1e-3
    batch_size: int = 512
    epochs: int = 2
    frozen_decoder: bool = False


@dataclass(frozen=True, kw_only=True)
class SaeQuality:
    """On `n` tokens: the fraction of variance unexplained, mean active latents a token, and the share of latents that are
    active on none of them."""

    fvu: float
    l0: float
    dead: float
    n: int


def train_sae(
    model: Any,
    states: TokenStates,
    layer: int,
    settings: SaeSettings,
    folder: str | Path,
    *,
    label: str = "training SAE",
) -> SaeQuality:
    """Train an SAE on the states after `layer` and save it in `folder` as sae-lens does, with `mechgate.json` beside it.

    A twentieth of the texts is held out for the returned quality. Written whole or not at all. Raises `InputError` for
    settings that cannot be used, `ModelError` without sae-lens, `StorageError` where there is something else.
    """
    check_choice("architecture", settings.architecture, ARCHITECTURES)
    data = states.load(layer)
    _, texts = states.tokens()
    last = texts.max() + 1
    held = texts >= last - max(1, round(HELD_OUT * last))
    fitted = data[torch.from_numpy(~held)]
    if not 1 <= settings.k <= settings.d_sae or settings.epochs < 1 or not 1 <= settings.batch_size <= len(fitted):
        raise InputError(
            "SAE settings cannot be used",
            got=asdict(settings) | {"tokens": len(fitted)},
            allowed="1 <= k <= d_sae, epochs >= 1, batch_size at most the tokens",
        )
    target = Path(folder)
    check_writable(target)
    if target.exists() and not (target / RECORD_FILE).is_file() and any(target.iterdir()):
        raise StorageError("there is something else than an SAE of ours", got=str(target), do="choose another folder")
    trained = _fitted(model, fitted, layer, settings, label)
    quality = sae_quality(trained, data[torch.from_numpy(held)])
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".sae-") as made:
        trained.sae.save_inference_model(made)
        record = {"model": describe(model), "layer": layer, "settings": asdict(settings), "quality": asdict(quality)}
        record |= {"tokens": len(fitted), "states": states.hash, "provenance": provenance()}
        write_json(Path(made) / RECORD_FILE, record)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)
    return quality


def sae_quality(sae: Sae, states: torch.Tensor, *, batch_size: int = 4096) -> SaeQuality:
    """FVU, L0 and dead share of an SAE on states [n, d_model]. Raises `InputError` for fewer than two."""
    if len(states) < 2:
        raise InputError("quality needs states to be measured on", got=len(states))
    mean = states.float().mean(dim=0)
    errors = totals = active = 0.0
    fired = torch.zeros(sae.n_latents, dtype=torch.bool)
    for start in range(0, len(states), batch_size):
        part = states[start : start + batch_size].float()
        latents = sae.encode(part)
        errors += float((part - sae.reconstruct(part)).double().square().sum())
        totals += float((part - mean).double().square().sum())
        active += float((latents > 0).sum())
        fired |= (latents > 0).any(dim=0)
    return SaeQuality(fvu=errors / totals, l0=active / len(states), dead=1 - float(fired.float().mean()), n=len(states))


def _fitted(model: Any, data: torch.Tensor, layer: int, settings: SaeSettings, label: str) -> Sae:
    try:
        from sae_lens import SAETrainer, TrainingSAE
        from sae_lens.config import LoggingConfig, SAETrainerConfig
    except ImportError as error:
        raise ModelError("training SAEs needs sae-lens", do="pip install 'mechgate[sae]'") from error
    steps = settings.epochs * (len(data) // settings.batch_size)
    config: dict[str, Any] = {
        "architecture": settings.architecture,
        "d_in": data.shape[1],
        "d_sae": settings.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "normalize_activations": "expected_average_only_in",
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post", "model_name": describe(model)["name"]},
    }
    if settings.architecture == "topk":
        config["k"] = settings.k
    else:  # aims at the same number of active latents
        config |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": settings.k, "l0_warm_up_steps": steps // 5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(settings.seed, "sae weights"))
        sae: Any = TrainingSAE.from_dict(config)
        with torch.no_grad():  # in the unit that the trainer scales states to: a mean norm of sqrt(d_model)
            some = data[torch.from_numpy(rng(settings.seed, "sae norm").permutation(len(data))[:10_000])].float()
            sae.b_dec.copy_(some.mean(dim=0) * data.shape[1] ** 0.5 / some.norm(dim=-1).mean())
        sae.W_dec.requires_grad_(not settings.frozen_decoder)
        trainer = SAETrainer(
            cfg=SAETrainerConfig(
                total_training_samples=steps * settings.batch_size,
                train_batch_size_samples=settings.batch_size,
                lr=settings.lr,
                lr_end=settings.lr / 10,
                lr_scheduler_name="constant",
                lr_warm_up_steps=min(100, steps // 10),
                lr_decay_steps=steps // 5,
                n_batches_for_norm_estimate=min(20, steps),
                dead_feature_window=max(1, steps // 5),
                logger=LoggingConfig(log_to_wandb=False),
            ),
            sae=sae,
            data_provider=_batches(data, settings, steps, label),
        )
        trainer.fit()
    return as_sae(sae, model, layer=layer)


def _batches(data: torch.Tensor, settings: SaeSettings, steps: int, label: str) -> Iterator[torch.Tensor]:
    """Shuffled batches: first those that the norm is estimated on, then `steps` of training."""
    stream = rng(settings.seed, "sae batches")
    order = stream.permutation(len(data))
    for start in range(min(20, steps)):
        yield data[torch.from_numpy(order[start * settings.batch_size : (start + 1) * settings.batch_size])].float()
    per_epoch = steps // settings.epochs
    for step in track(range(steps), label):
        if step % per_epoch == 0:
            order = stream.permutation(len(data))
        first = (step % per_epoch) * settings.batch_size
        yield data[torch.from_numpy(np.sort(order[first : first + settings.batch_size]))].float()


def train_saes(
    model: Any,
    folder: str | Path,
    *,
    layers: Sequence[int] = (),
    seeds: Sequence[int] = (0,),
    frozen: bool = False,
    tokens: int = 400_000,
    d_sae: int = 4608,
    k: int = 32,
    architecture: str = "topk",
    epochs: int = 2,
    lr: float = 1e-3,
    max_new_tokens: int = 128,
    say: Callable[[str], None] = print,
) -> dict[Path, SaeQuality]:
    """SAEs of several layers (none: the middle one) and seeds, and with `frozen` one with a random decoder a layer, from
    the same `tokens`: the shipped prose, and what the model says to training prompts (claims, advice, neutral chat, open
    questions), sampled. An SAE that is in `folder` with the same settings is not trained again; states and SAEs both
    go on where they were interrupted. Raises what `generated_states` and `train_sae` raise.
    """
    chosen = list(layers) or [shape_of(model).n_layers // 2]
    states = generated_states(
        model,
        sae_prompts(),
        Path(folder) / "states",
        layers=chosen,
        n=tokens,
        seed=0,
        texts=[passage.text for passage in prose()],
        max_new_tokens=max_new_tokens,
    )
    options: dict[str, Any] = dict(d_sae=d_sae, k=k, architecture=architecture, epochs=epochs, lr=lr)
    jobs = [(f"seed-{seed}", SaeSettings(seed=seed, **options)) for seed in seeds]
    jobs += [("frozen", SaeSettings(seed=seeds[0], frozen_decoder=True, **options))] if frozen else []
    found = {}
    for layer in chosen:
        for name, settings in jobs:
            path = Path(folder) / f"layer-{layer}-{name}"
            kept = _record(path)
            if kept and kept["settings"] == asdict(settings) and kept["states"] == states.hash:
                say(f"{path}: reused")
                found[path] = SaeQuality(**kept["quality"])
                continue
            say(f"{path} ...")
            found[path] = train_sae(model, states, layer, settings, path)
    return found


def sae_prompts() -> list[tuple[Message, ...]]:
    """What SAEs' texts answer: training claims (false and true), questions on facts, neutral chat and open questions."""
    tasks = ("sycophancy", "genuine-agreement", "bad-advice")
    pairs = [pair for task in tasks for pair in load_pairs(task, None, "train", phrasings=2)]
    asks = [*(exchange.question for exchange in split_chat("train")), *(question.prompt for question in questions())]
    return [*(pair.messages for pair in pairs), *map(asked, asks)]


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / RECORD_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
