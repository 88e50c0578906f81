"""Does a score tell matched cases apart? The area under the ROC curve at several places, with the labels of pairs exchanged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mechgate.errors import InputError
from mechgate.seeding import rng
from mechgate.stats.directions import OverPlaces, against_null
from mechgate.stats.permutation import FEWEST_NULLS
from mechgate.stats.samples import whole_number


@dataclass(frozen=True, kw_only=True)
class Detection:
    """`auroc` [places]: the chance that a case scores higher than another case's match (ties count half); .5 is chance.

    `low` and `high` [places]: percentile bootstrap of pairs. `null`: pairs' labels exchanged, two-sided, adjusted for
    the largest place; its band is |AUROC - .5|. `pairs` is how many.
    """

    auroc: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    null: OverPlaces
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        found = {"auroc": list(self.auroc), "low": list(self.low), "high": list(self.high)}
        return {**found, **self.null.to_json(), "pairs": self.pairs}


def detection(cases: NDArray, matches: NDArray, *, seed: int, draws: int = 1000, level: float = 0.95) -> Detection:
    """AUROC of scores of `cases` against those of their `matches`, both [pairs, places].

    Exchanging a pair's labels leaves the ranks as they are, so that all draws are sums of ranks. Raises `InputError`
    for fewer than two pairs, shapes that differ, and numbers that are not finite.
    """
    cases, matches = np.asarray(cases, dtype=np.float64), np.asarray(matches, dtype=np.float64)
    if cases.ndim != 2 or cases.shape != matches.shape or len(cases) < 2 or not cases.size:
        raise InputError(
            "detection needs matched scores", got=f"{cases.shape} and {matches.shape}", allowed="[pairs >= 2, places]"
        )
    if not (np.isfinite(cases).all() and np.isfinite(matches).all()):
        raise InputError("scores must be finite numbers")
    draws, n = whole_number(draws, "draws", least=FEWEST_NULLS), len(cases)
    ranks = rankdata(np.concatenate([cases, matches]), axis=0)
    least, middle = n * (n + 1) / 2, ranks.sum(axis=0) / 2
    observed = (ranks[:n].sum(axis=0) - least) / n**2
    signs = rng(seed, "detection", "labels").choice([-1.0, 1.0], size=(draws, n))
    null = (middle + signs @ (ranks[:n] - ranks[n:]) / 2 - least) / n**2
    drawn = np.empty((draws, cases.shape[1]))
    wins = (cases[:, None] > matches[None]) + 0.5 * (cases[:, None] == matches[None])
    counts = rng(seed, "detection", "bootstrap").multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    for place in range(cases.shape[1]):
        drawn[:, place] = np.einsum("bi,bi->b", counts @ wins[:, :, place], counts) / n**2
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Detection(
        auroc=tuple(observed.tolist()),
        low=tuple(np.minimum(low, observed).tolist()),
        high=tuple(np.maximum(high, observed).tolist()),
        null=against_null(observed - 0.5, null - 0.5),
        pairs=n,
    )
