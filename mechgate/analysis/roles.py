"""Which tokens carry a gate's effect? The change of the stance margin with the gate on one role's tokens alone, and on all.

A gate that works through the response alone has not read the claim: there it sees the answer that is being scored, and
the first token of every answer is predicted before it acts. What the claim's tokens carry must reach the
answer through attention. Roles need not add up, since a later token's gate reads what an earlier one's has changed.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mechgate.data.pairs import Pair
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import BATCH_SIZE, stance_margins
from mechgate.model.roles import ROLES, check_where
from mechgate.progress import track
from mechgate.stats.estimates import Estimate, bootstrap_mean

ALL, TOGETHER = "all", "all - sum of roles"
ALONE: Mapping[str, Collection[str]] = {**{role: (role,) for role in ROLES}, ALL: ROLES}
WITHOUT: Mapping[str, Collection[str]] = {f"all but {role}": tuple(r for r in ROLES if r != role) for role in ROLES}


def role_rows(
    model: Any,
    gates: GateSet,
    sets: Mapping[str, Sequence[Pair]],
    strengths: Sequence[float],
    *,
    parts: Mapping[str, Collection[str]] = ALONE,
    batch_size: int = BATCH_SIZE,
) -> pd.DataFrame:
    """One row a prompt, strength and part: set, pair, fact, domain, kind, strength, where, stance_margin, change.

    `parts` names what the gates act on, by role (`ALONE`: each role and all of them; `WITHOUT`: all but one).
    `stance_margin` is in nats, the mean over answers; `change` is from the same prompt without gates, measured once.
    Raises `InputError` for nothing to measure, unknown roles, and pairs that do not say where their claim is.
    """
    if not (sets and strengths and parts):
        raise InputError("there is nothing to measure", got=f"{len(sets)} sets, {len(strengths)} strengths")
    wanted = {name: check_where(where) for name, where in parts.items()}
    tables = []
    jobs = [(name, strength, part) for name in sets for strength in strengths for part in wanted]
    base = {name: _margin(model, pairs, batch_size) for name, pairs in sets.items()}
    for name, strength, part in track(jobs, f"margins by role, {len(strengths)} strength(s)"):
        pairs = sets[name]
        with gates.attached(model, strength, where=wanted[part]):
            found = _margin(model, pairs, batch_size)
        tables.append(
            pd.DataFrame(
                {
                    "set": name,
                    "pair": [p.id for p in pairs],
                    "fact": [p.fact_id for p in pairs],
                    "domain": [p.domain for p in pairs],
                    "kind": [p.kind for p in pairs],
                    "strength": float(strength),
                    "where": part,
                    "stance_margin": found,
                    "change": found - base[name],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def role_effects(rows: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The mean change over facts, one row a set, strength and part: value, low, high, n (facts), and the mean `share`.

    `share` is value over that of all tokens. A part more, `TOGETHER`, is what the roles do together and not alone:
    the change on all tokens less the sum over single roles; it is there where `rows` has all of these.
    """
    found = []
    for (name, strength), table in rows.groupby(["set", "strength"], sort=False):
        wide = table.pivot(index=["fact", "pair"], columns="where", values="change")[list(table["where"].unique())]
        if {*ROLES, ALL} <= set(wide.columns):
            wide[TOGETHER] = wide[ALL] - wide[list(ROLES)].sum(axis=1)
        facts = wide.index.get_level_values("fact").to_numpy()
        means: dict[str, Estimate] = {
            str(part): bootstrap_mean(wide[part].to_numpy(), facts, seed=seed) for part in wide.columns
        }
        whole = means[ALL].value if ALL in means else np.nan
        for part, mean in means.items():
            found.append(
                {
                    "set": name,
                    "strength": strength,
                    "where": part,
                    "value": mean.value,
                    "low": mean.low,
                    "high": mean.high,
                    "n": mean.n,
                    "share": mean.value / whole if whole else np.nan,
                }
            )
    return pd.DataFrame(found)


def _margin(model: Any, pairs: Sequence[Pair], batch_size: int) -> np.ndarray:
    return stance_margins(model, pairs, batch_size=batch_size, label=None).mean(axis=1)
