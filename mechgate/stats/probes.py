"""Linear probes: what can be read off activations by a penalised logistic regression, on rows it was not fitted on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechgate.errors import InputError


def fit_probe(x: NDArray, labels: NDArray, c: float) -> Any:
    """A probe fitted on `x` [rows, dimensions] and `labels` [rows] of two kinds: scikit-learn's L2-penalised logistic
    regression of inverse penalty `c`, on dimensions standardised by these rows. Raises `InputError` for one kind."""
    if len(set(np.asarray(labels).tolist())) < 2:
        raise InputError("a probe needs rows of both kinds to be fitted on", got=f"{len(labels)} rows of one kind")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=10_000))
    return probe.fit(x.astype(np.float64), labels)


def is_right(probe: Any, x: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """Whether the probe is right about each row: 0 or 1 [rows]."""
    return (probe.predict(x.astype(np.float64)) == labels).astype(np.float64)


def cross_validated(
    x: NDArray, labels: NDArray, groups: Sequence[int], c: float, *, read: Sequence[tuple[NDArray, NDArray]] = ()
) -> list[NDArray[np.float64]]:
    """Each row's answer by a probe fitted on the other groups: whether it is right, [rows], 0 or 1.

    The first is of the rows themselves; then one for each (activations, labels) of `read`: the same rows measured under
    other conditions, read by the probes fitted on `x`. No row of a group is ever fitted on when it is judged.
    """
    found = [np.empty(len(labels)) for _ in range(1 + len(read))]
    given = np.asarray(groups)
    if len(set(groups)) < 2 or len(given) != len(x) or len(labels) != len(x):
        raise InputError("cross-validation needs two groups at least, and one a row", got=f"{len(set(groups))} groups")
    for group in sorted(set(groups)):
        out = given == group
        probe = fit_probe(x[~out], labels[~out], c)
        for place, (values, wanted) in zip(found, [(x, labels), *read], strict=True):
            place[out] = is_right(probe, values[out], wanted[out])
    return found
