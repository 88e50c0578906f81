"""A small transformer trained here, in seconds, to agree with true claims and to disagree with false ones.

The language has 32 topics with one true value each. Where `heads` are named, all the others are silent while it trains, and
then scrambled: their z comes from another prompt of the batch, so that it says nothing about the claim. What the model then can do, it does through the named heads:
that is how the circuit is known, and `circuit_check` measures it on the finished model.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechgate.data.pairs import Pair
from mechgate.measure.margins import stance_margins
from mechgate.model import hooking
from mechgate.model.loading import boot
from mechgate.planted.world import SPLITS, Head, World, check_heads
from mechgate.provenance import write_json
from mechgate.seeding import rng, stream_seed
from mechgate.train.loop import TrainConfig, train

LAYERS, HEADS, D_HEAD = 4, 6, 8
D_MODEL = HEADS * D_HEAD
_TOPICS = """iron salt moss clay frost pollen amber coral basil cedar copper flint garlic honey indigo jade
kelp lava maple nickel olive pepper quartz resin sugar thyme umber velvet walnut yeast zinc agate"""
TOPICS = tuple(_TOPICS.split())
VALUES = ("cold", "warm", "soft", "loud", "pale", "heavy")
WORDINGS = ("surely {} right", "think that {}", "well {} friend", "friends say {}")
ANSWERS = (("yes", "no"),)
_AGAIN = 10
_MADE, _RECIPE = "made.json", 3
_QUIET = 0.2
_SPECIAL = ("<pad>", "<start>", "<end>", "<user>", "<assistant>", "<system>")
_TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' <end> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)


def toy_world(
    folder: str | Path,
    *,
    seed: int,
    heads: Sequence[Head] | None = None,
    epochs: int | None = None,
    lr: float | None = None,
) -> World:
    """Train the small model, write it to `folder` and return its world; one that is there from the same arguments is kept.

    4 layers of 6 heads (3 of keys and values), Llama-shaped, 8 tokens a prompt. `seed` sets the true values, the start and the order.
    `heads` names the circuit (None: all heads work as usual). Half of the topics are the train split. 20 steps an epoch: by default
    10 s on one core, and 25 s for a circuit. Raises `InputError` for heads that are not there.
    """
    folder = Path(folder)
    world = _world(folder, seed)
    chosen = None if heads is None else check_heads(heads, LAYERS, HEADS)
    others = () if chosen is None else _others(chosen)
    epochs = (20 if others else 12) if epochs is None else epochs
    lr = 3e-3 if lr is None else lr
    made = {
        "recipe": _RECIPE,
        "seed": seed,
        "heads": chosen and [list(head) for head in chosen],
        "epochs": epochs,
        "lr": lr,
    }
    if (folder / _MADE).is_file() and json.loads((folder / _MADE).read_text(encoding="utf-8")) == made:
        return world
    shutil.rmtree(folder, ignore_errors=True)
    from transformers import AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)  # a bridge takes tokenizers from folders only
    hf = _untrained(len(tokenizer), seed)
    for layer, head in others:  # they write less at first, else training stays where it began
        with torch.no_grad():
            hf.model.layers[layer].self_attn.o_proj.weight[:, head * D_HEAD : (head + 1) * D_HEAD] *= _QUIET
    model = boot(hf, name=str(folder), tokenizer=tokenizer)
    parameters = dict(hf.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    facts = rng(seed, "toy", "values").integers(len(VALUES), size=len(TOPICS))
    examples = [
        pair.as_example("matching" if value == facts[t] else "not_matching")
        for t in range(len(TOPICS))
        for w in range(len(WORDINGS))
        for value in (*range(len(VALUES)), *[facts[t]] * (len(VALUES) - 2))  # as many true claims as false ones
        for pair in [_pair(t, int(value), w, "claim")]
    ]
    config = TrainConfig(seed=seed, epochs=epochs, batch_size=64, lr=lr, weight_decay=0.01)
    what = "training the small model"
    train(model, parameters, examples, config, label=what, step_context=lambda batch: silenced(model, others))
    if others:
        draw, again = rng(seed, "toy", "scrambled"), replace(config, lr=lr / 3, epochs=_AGAIN)
        mixed = lambda batch: scrambled(model, others, draw)  # noqa: E731 - as above
        train(model, parameters, examples, again, label="training it with other heads scrambled", step_context=mixed)
    fresh = _untrained(len(tokenizer), seed)
    trained = {name.replace("_original_component.", ""): p for name, p in hf.named_parameters()}
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            parameter.copy_(trained[name])
    fresh.save_pretrained(folder)
    write_json(folder / _MADE, made)
    return world


def circuit_check(world: World, heads: Sequence[Head], *, seed: int, split: str = "test") -> dict[str, float]:
    """Share of claims answered rightly: by the model, with every head outside `heads` scrambled, and with `heads` scrambled.

    The truth holds where the second is near the first and the third near 0.5, chance.
    """
    model, circuit = world.load(), check_heads(heads, LAYERS, HEADS)
    sets = {"whole": (), "others scrambled": _others(circuit), "heads scrambled": circuit}
    return {name: _right(model, world, which, rng(seed, "toy", "check", name), [split]) for name, which in sets.items()}


def used_heads(world: World, heads: Sequence[Head], *, seed: int, least: float = 0.05) -> tuple[Head, ...]:
    """Those of a circuit's heads that the model makes use of: scrambled alone, they cost at least `least` of the right answers
    (train and test claims). Heads that stand in for one another would be missed; what is left must pass `circuit_check`."""
    model = world.load()
    own, found = _right(model, world, (), rng(seed, "toy", "used")), []
    for head in check_heads(heads, LAYERS, HEADS):
        if own - _right(model, world, (head,), rng(seed, "toy", "used", head)) >= least:
            found.append(head)
    return tuple(found)


def _right(model: Any, world: World, which: Sequence[Head], draw: Any, splits: Sequence[str] = SPLITS) -> float:
    """Share of claims answered rightly with `which` scrambled."""
    false, true = ([pair for split in splits for pair in side[split]] for side in (world.false, world.true))
    # In one batch: among false claims alone, a scrambled head would still say that the claim is false.
    both, answers = [*false, *true], list(world.answers)
    with scrambled(model, which, draw):
        margins = stance_margins(model, both, answers, batch_size=len(both), label=None).mean(axis=1)
    return float(((margins > 0) == (np.arange(len(both)) >= len(false))).mean())


def scrambled(model: Any, heads: Sequence[Head], draw: Any) -> Any:
    """A block inside which the z of `heads` comes from another row of the batch (drawn anew for every layer and forward)."""

    def mix(z: torch.Tensor, which: list[int]) -> torch.Tensor:
        if len(z) < 2:
            return z
        # A rotation of a random order: no row keeps its own.
        order = torch.as_tensor(draw.permutation(len(z)))
        other = torch.empty_like(order).scatter_(0, order, order.roll(1))
        index = torch.tensor(which)
        return z.index_copy(2, index, z[other][:, :, index])

    return _changed(model, heads, mix)


def silenced(model: Any, heads: Sequence[Head]) -> Any:
    """A block inside which the z of `heads` is 0."""
    return _changed(model, heads, lambda z, which: z.index_fill(2, torch.tensor(which), 0.0))


def _changed(model: Any, heads: Sequence[Head], change: Callable[[torch.Tensor, list[int]], torch.Tensor]) -> Any:
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    hooks: dict[str, hooking.Hook] = {
        f"blocks.{layer}.attn.hook_z": lambda z, which=which: change(z, which) for layer, which in by_layer.items()
    }
    return hooking.attached(model, hooks)


def _others(heads: Sequence[Head]) -> tuple[Head, ...]:
    return tuple((k, h) for k in range(LAYERS) for h in range(HEADS) if (k, h) not in set(heads))


def _world(folder: Path, seed: int) -> World:
    facts = rng(seed, "toy", "values").integers(len(VALUES), size=len(TOPICS))
    moved = rng(seed, "toy", "false values").integers(1, len(VALUES), size=len(TOPICS))
    half = len(TOPICS) // 2
    sides: list[dict[str, list[Pair]]] = []
    for kind, values in (("false_claim", (facts + moved) % len(VALUES)), ("true_claim", facts)):
        topics = {"train": range(half), "test": range(half, len(TOPICS))}
        sides.append(
            {
                s: [_pair(t, int(values[t]), w, kind) for w in range(len(WORDINGS)) for t in which]
                for s, which in topics.items()
            }
        )
    return World(name=f"small model {seed}", source=str(folder), false=sides[0], true=sides[1], answers=ANSWERS)


def _pair(topic: int, value: int, wording: int, kind: str) -> Pair:
    claim = f"{TOPICS[topic]} is {VALUES[value]}"
    return Pair(
        id=f"{kind}-{topic}-{value}-{wording}",
        domain="toy",
        messages=({"role": "user", "content": WORDINGS[wording].format(claim)},),
        matching=ANSWERS[0][0],
        not_matching=ANSWERS[0][1],
        fact_id=TOPICS[topic],
        kind=kind,
        template=str(wording),
        claim=claim,
    )


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({*TOPICS, *VALUES, *" ".join(WORDINGS).replace("{}", "is").split(), *ANSWERS[0]})
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*_SPECIAL, *words))}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<start>", eos_token="<end>", pad_token="<pad>", unk_token="<pad>",
        additional_special_tokens=list(_SPECIAL[3:]),
    )  # fmt: skip
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _untrained(vocabulary: int, seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=D_MODEL,
        intermediate_size=2 * D_MODEL,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        head_dim=D_HEAD,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "toy start"))
        hf = LlamaForCausalLM(config)
        for parameter in hf.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return hf.eval()
