"""Made-up activations of a factorial design: facts and phrasings have patterns of their own, sides what is planted."""

from collections.abc import Callable

import numpy as np
import pytest

from mechgate.data.factorial import Factorial, claims_design

N_LAYERS, WIDTH = 2, 12


@pytest.fixture(scope="session")
def design() -> Factorial:
    """24 facts of 6 domains, in two phrasings: 96 prompts."""
    return claims_design(facts=24, phrasings=2)


@pytest.fixture(scope="session")
def made_up(design: Factorial) -> Callable[..., np.ndarray]:
    """`made_up(seed, side=0.0)`: fp32 [96, 2, 12]; `side` is how far true claims lie from false ones, in noise units."""

    def build(seed: int, side: float = 0.0) -> np.ndarray:
        r = np.random.default_rng(seed)
        facts, phrasings, sides = design.shape
        size = (N_LAYERS, WIDTH)
        x = r.normal(size=(facts, 1, 1, *size)) + r.normal(size=(1, phrasings, 1, *size))
        x = x + r.normal(size=(facts, 1, sides, *size)) + 0.3 * r.normal(size=(facts, phrasings, sides, *size)) + 2
        direction = r.normal(size=size) / WIDTH**0.5
        x = x + side * np.array([-1, 1]).reshape(2, 1, 1) * direction
        return x.reshape(-1, *size).astype(np.float32)

    return build
