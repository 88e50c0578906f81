"""Is a test what it says it is? p-values of many null simulations against the uniform distribution.

An exact test rejects a true null with the chance alpha for every alpha, so its p-values are uniform (Kolmogorov and
Smirnov, two-sided). A valid but not exact one rejects no more often than that: its p-values are super-uniform, and only
an excess of small ones (one-sided) speaks against it. Applying the first to the second would fail honest tests.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.estimates import Estimate, exact_share
from mechgate.stats.samples import finite_vector

ALPHA = 0.05
FEWEST = 20
"""Simulations below which neither question can be answered."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often something happened in null simulations that should happen with a chance of `nominal` at most.

    `share` has its Clopper-Pearson interval; `limit` is nominal + 2 standard errors of that many simulations, and
    `within` says that the share is not above it. A test of exactly the nominal size passes with a chance of about 97%.
    """

    share: Estimate
    nominal: float
    limit: float

    @property
    def within(self) -> bool:
        return self.share.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {
            "share": self.share.to_json(),
            "nominal": self.nominal,
            "limit": self.limit,
            "within": self.within,
        }


@dataclass(frozen=True, kw_only=True)
class Uniformity:
    """p-values of null simulations: `rejections` at 5%, and the Kolmogorov-Smirnov distance from uniform with its p.

    `exact` says which question that was: uniform (two-sided), or no excess of small values (one-sided). `quantiles` are
    the p-values at each twentieth, for drawing.
    """

    rejections: Rate
    exact: bool
    distance: float
    p: float
    quantiles: tuple[float, ...]

    @property
    def calibrated(self) -> bool:
        return self.p > ALPHA and self.rejections.within

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {
            "rejections": self.rejections.to_json(),
            "question": "uniform" if self.exact else "super-uniform",
            "distance": self.distance,
            "p": self.p,
            "calibrated": self.calibrated,
            "quantiles": list(self.quantiles),
        }


def rate(hits: int, n: int, *, nominal: float = ALPHA) -> Rate:
    """`hits` of `n` simulations against a nominal chance. Raises `InputError` for fewer than 20 simulations, hits that
    are no part of n, and a nominal chance outside (0, 1)."""
    if n < FEWEST:
        raise InputError("so few simulations say nothing about a rate", got=n, allowed=f"at least {FEWEST}")
    if not 0 < nominal < 1:
        raise InputError("a nominal rate is a chance", got=nominal, allowed="above 0, below 1")
    limit = nominal + 2 * math.sqrt(nominal * (1 - nominal) / n)
    return Rate(share=exact_share(hits, n), nominal=nominal, limit=limit)


def uniformity(p_values: ArrayLike, *, exact: bool, step: float | None = None, seed: int = 0) -> Uniformity:
    """Rejections at 5% and uniformity of p-values, one an independent null simulation.

    `step`: for p-values on a grid, such as (b + 1) / (K + 1), its spacing. Uniform numbers in [0, step) are then taken off
    before the Kolmogorov-Smirnov test of an exact one, which makes it exactly uniform where it is uniform on the grid;
    rejections are counted on the p-values as they are. Raises `InputError` for values outside (0, 1], fewer than 20, and a
    step that is not between 0 and 1.
    """
    values = finite_vector(p_values, "p_values")
    if not ((values > 0) & (values <= 1)).all():
        raise InputError("p-values must be above 0, at most 1", got=f"{values.min()} to {values.max()}")
    if step is not None and not 0 < step < 1:
        raise InputError("a grid's step is not usable", got=step, allowed="above 0, below 1")
    rejections = rate(int(np.count_nonzero(values <= ALPHA + 1e-12)), values.size)
    tested = _off_grid(values, step, seed) if exact and step is not None else values
    found: Any = scipy.stats.ks_1samp(tested, scipy.stats.uniform.cdf, alternative="two-sided" if exact else "greater")
    return Uniformity(
        rejections=rejections,
        exact=exact,
        distance=float(found.statistic),
        p=min(float(found.pvalue), 1.0),
        quantiles=tuple(float(q) for q in np.quantile(values, np.linspace(0, 1, 21))),
    )


def _off_grid(values: NDArray[np.float64], step: float, seed: int) -> NDArray[np.float64]:
    return np.clip(values - step * rng(seed, "between p-values").random(values.size), 0, 1)
