"""All heads of the default model patched, against TransformerLens' own function in the same run."""

from typing import Any

import torch
from transformer_lens import patching as lens

from benchmarks.timing import Line, paired, speed_line
from mechgate.data.tasks import load_pairs
from mechgate.measure.patch_screen import agreement, attribute_heads
from mechgate.measure.patching import patch_heads
from mechgate.model.loading import load_model
from mechgate.model.prompts import prompt_ids

REPEATS = 2
BOUND = 8.0


def run() -> list[Line]:
    """Speed in fp32, the largest difference, and how far the first-order screen agrees."""
    model = load_model(dtype="float32")
    clean, corrupted = prompts(model)
    tokens = [torch.tensor([ids]) for ids in (clean, corrupted)]
    yes, no = (model.tokenizer(text, add_special_tokens=False).input_ids[0] for text in ("Yes", "No"))

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, yes] - logits[0, -1, no]

    def theirs() -> torch.Tensor:
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens[0])
            bridge: Any = model  # their types know only the older class, which a bridge stands in for
            return lens.get_act_patch_attn_head_out_all_pos(bridge, tokens[1], cache, metric)

    def ours() -> object:
        return patch_heads(model, clean, corrupted, metric, label=None)

    ratios = paired(theirs, ours, REPEATS)
    exact = patch_heads(model, clean, corrupted, metric, label=None)
    far = float(abs(exact - theirs().double().numpy()).max())
    lines = [
        speed_line(f"patching all heads, {len(clean)}-token pair (fp32)", ratios, BOUND, REPEATS),
        Line(
            what="largest difference from TransformerLens' values", value=f"{far:.1e}", bound="<= 1e-4", met=far <= 1e-4
        ),
    ]
    for nodes in (1, 4):
        screened = attribute_heads(model, clean, corrupted, metric, nodes=nodes)
        found = agreement(screened, exact)
        value = f"Pearson {found.pearson:.2f}, Spearman {found.spearman:.2f} over {found.n} heads"
        lines.append(
            Line(what=f"attribution patching, {nodes} node(s), against exact", value=value, bound="", met=None)
        )
    return lines


def prompts(model: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A false and a true claim about one fact in the same words, of equally many tokens: the first such pair."""
    sides = [load_pairs(task, None, "test", phrasings=1) for task in ("genuine-agreement", "sycophancy")]
    other = {pair.fact_id: pair for pair in sides[1]}
    for pair in sides[0]:
        ids = [prompt_ids(model, one.messages) for one in (pair, other[pair.fact_id])]
        if len(ids[0]) == len(ids[1]):
            return ids[0], ids[1]
    raise RuntimeError("no pair of claims has equally many tokens")
