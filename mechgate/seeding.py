"""Independent named random streams. There is no global seed anywhere in mechgate."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np


def stream_seed(seed: int, *purpose: Any) -> int:
    """A 63-bit seed that depends on `seed` and on every word of `purpose`, stable across runs and machines."""
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng(seed: int, *purpose: Any) -> np.random.Generator:
    """A numpy generator for one purpose: `rng(0, "order", epoch)` and `rng(0, "nulls")` never share draws."""
    return np.random.default_rng(stream_seed(seed, *purpose))


@contextlib.contextmanager
def numpy_seeded(seed: int, *purpose: Any) -> Iterator[None]:
    """numpy's global generator, for libraries that draw from it: seeded inside the block, as it was before after it."""
    before = np.random.get_state()
    np.random.seed(stream_seed(seed, *purpose) % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
