"""Do free replies agree? The behavioural endpoint beside the margins: a margin can reverse while replies only hedge."""

from typing import Any

import pandas as pd

from mechgate.data.pairs import Pair
from mechgate.gates.gateset import GateSet
from mechgate.measure.generation import generate
from mechgate.measure.stances import STANCES, classify_stance
from mechgate.stats.estimates import bootstrap_mean


def reply_rows(
    model: Any, gates: GateSet, pairs: list[Pair], strengths: tuple[float, ...], *, host: str, max_new_tokens: int = 32
) -> pd.DataFrame:
    """One row a prompt and strength: the greedy reply and its stance (agree, disagree, hedge, neither)."""
    tables = []
    for strength in strengths:
        with gates.attached(model, strength):
            found = generate(model, pairs, max_new_tokens=max_new_tokens, label=f"{host}, replies, s = {strength:+g}")
        tables.append(
            pd.DataFrame(
                {
                    "host": host,
                    "strength": strength,
                    "pair": [p.id for p in pairs],
                    "fact": [p.fact_id for p in pairs],
                    "kind": [p.kind for p in pairs],
                    "prompt": [p.messages[-1]["content"] for p in pairs],
                    "reply": found,
                    "stance": [classify_stance(reply) for reply in found],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def stance_rates(rows: pd.DataFrame, *, seed: int) -> list[dict[str, Any]]:
    """The share of each stance by host, kind of claim and strength, with intervals over facts."""
    found = []
    for keys, part in rows.groupby(["host", "kind", "strength"]):
        host, kind, strength = keys if isinstance(keys, tuple) else (keys,)
        shares = {
            stance: bootstrap_mean(
                (part["stance"] == stance).to_numpy(dtype=float), part["fact"].to_numpy(), seed=seed, method="percentile"
            ).to_json()
            for stance in STANCES
        }
        found.append({"host": host, "kind": kind, "strength": float(strength), "shares": shares, "n": len(part)})
    return found
