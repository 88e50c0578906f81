"""Margins: prompt, shared prefix and only the logits that are read, against both answers scored separately."""

import numpy as np
import torch

from benchmarks.reference import plain_answer_score, plain_model
from benchmarks.timing import Line, paired, speed_line
from mechgate.data.pairs import Pair
from mechgate.data.tasks import load_pairs
from mechgate.measure.margins import margins
from mechgate.model.loading import load_model
from mechgate.model.prompts import Row, encode

N_PAIRS, BATCH, REPEATS = 32, 16, 5


def run() -> list[Line]:
    """Equal margins, and how much faster."""
    hf, model = plain_model(), load_model(dtype="float32")
    pairs: list[Pair] = load_pairs("sycophancy", None, "test", phrasings=1)[:N_PAIRS]

    def reference() -> np.ndarray:
        scores = []
        with torch.inference_mode():
            for name in ("matching", "not_matching"):
                rows: list[Row] = [encode(model, pair.messages, [getattr(pair, name)]) for pair in pairs]
                parts = [plain_answer_score(hf, rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
                scores.append(torch.cat(parts).numpy())
        return scores[0] - scores[1]

    def ours() -> np.ndarray:
        return margins(model, pairs, batch_size=BATCH)

    difference = float(np.abs(reference() - ours()).max())
    same = Line(
        what=f"margins of {N_PAIRS} pairs, fp32",
        value=f"largest difference {difference:.1e}",
        bound="< 1e-4",
        met=difference < 1e-4,
    )
    return [same, speed_line(f"margins of {N_PAIRS} pairs, fp32", paired(reference, ours, REPEATS), 1.5, REPEATS)]
