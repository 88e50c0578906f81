"""Laws of the transfer matrix: changes from the base, cell by cell, and own training against others on equal facts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechgate.analysis.transfer import margin_rows, transfer_numbers
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.measure.margins import stance_margins

DOMAINS = ("finance", "medical", "science")
FEW: dict[str, Any] = dict(draws=300)


def made_up(own: float, other: float, noise: float = 0.1, domains: tuple[str, ...] = DOMAINS) -> tuple[Any, Any]:
    """Base rows, and gated ones that change margins by own or other a unit of strength."""
    r = np.random.default_rng(0)
    keys = [("false_claim", d, f"{d}-{i}", f"{d}-{i}-{p}") for d in DOMAINS for i in range(8) for p in range(2)]
    base = pd.DataFrame(keys, columns=["kind", "domain", "fact", "id"]).assign(strength=0.0)
    base["value"] = r.normal(size=len(base))
    tables = []
    for trained in domains:
        for seed in (0, 1):
            for s in (-1.0, 1.0):
                effect = s * np.where(base["domain"] == trained, own, other) + noise * r.normal(size=len(base))
                tables.append(base.assign(trained=trained, seed=seed, strength=s, value=base["value"] + effect))
    return base, pd.concat(tables, ignore_index=True)


def test_rows_are_the_stance_margins_with_and_without_gates(chat: Any, shaken: Callable[..., GateSet]) -> None:
    gates, pairs = shaken(GateSet.identity(chat)), load_pairs("sycophancy", "medical", "test", phrasings=1)[:3]
    base = margin_rows(chat, pairs)
    np.testing.assert_array_equal(base["value"], stance_margins(chat, pairs, label=None).mean(axis=1))
    zero, turned = (margin_rows(chat, pairs, gates, s) for s in (0.0, -1.0))
    np.testing.assert_array_equal(zero["value"], base["value"])
    assert np.abs(turned["value"] - base["value"]).max() > 0.01
    assert turned["id"].tolist() == [pair.id for pair in pairs]


def test_cells_are_mean_changes_of_their_domains() -> None:
    base, gated = made_up(2.0, 1.0)
    numbers = transfer_numbers(base, gated, **FEW)
    assert len(numbers["cells"]) == 2 * len(DOMAINS) ** 2
    change = gated["value"] - gated["id"].map(base.set_index("id")["value"])
    for cell in numbers["cells"]:
        of = (gated["strength"] == cell["strength"]) & (gated["trained"] == cell["trained"])
        of &= gated["domain"] == cell["tested"]
        assert cell["change"]["value"] == pytest.approx(change[of].mean())
        assert cell["change"]["low"] < cell["change"]["value"] < cell["change"]["high"]
        assert cell["change"]["n"] == 8
        for seed, mean in cell["seeds"].items():
            assert mean == pytest.approx(change[of & (gated["seed"].astype(str) == seed)].mean())


def test_own_minus_others_finds_what_was_put_in_and_share_says_how_much_transfers() -> None:
    numbers = transfer_numbers(*made_up(2.0, 1.0), **FEW)
    found = {(c["strength"], c["tested"]): c for c in numbers["contrasts"]}
    assert set(found) == {(s, on) for s in (-1.0, 1.0) for on in ("all", *DOMAINS)}
    for (strength, _), contrast in found.items():
        assert contrast["own minus others"]["value"] == pytest.approx(strength, abs=0.15)
        assert contrast["share"]["value"] == pytest.approx(0.5, abs=0.05)
    assert found[1.0, "all"]["own"]["n"] == 24


def test_gates_that_act_alike_everywhere_have_no_contrast_and_gates_that_do_nothing_no_share() -> None:
    for contrast in transfer_numbers(*made_up(1.0, 1.0), **FEW)["contrasts"]:
        assert contrast["own minus others"]["value"] == pytest.approx(0, abs=0.1)
    for contrast in transfer_numbers(*made_up(0.0, 0.0, noise=0.0), **FEW)["contrasts"]:
        assert contrast["share"] is None


def test_the_contrast_over_all_is_blind_to_hard_domains_and_to_strong_gates() -> None:
    base, gated = made_up(1.0, 1.0, noise=0.0)
    moved = gated["trained"].map({"finance": 0, "medical": 1, "science": 5})
    moved = moved + gated["domain"].map({"finance": 3, "medical": 0, "science": 1})
    numbers = transfer_numbers(base, gated.assign(value=gated["value"] + moved), **FEW)
    contrasts = {c["strength"]: c["own minus others"]["value"] for c in numbers["contrasts"] if c["tested"] == "all"}
    np.testing.assert_allclose(list(contrasts.values()), 0, atol=1e-12)


def test_one_training_domain_has_cells_and_no_contrast() -> None:
    numbers = transfer_numbers(*made_up(2.0, 1.0, domains=("medical",)), **FEW)
    assert len(numbers["cells"]) == 2 * len(DOMAINS)
    assert numbers["contrasts"] == []


def test_the_order_of_rows_changes_nothing() -> None:
    base, gated = made_up(2.0, 1.0)
    mixed = transfer_numbers(base.sample(frac=1, random_state=1), gated.sample(frac=1, random_state=2), **FEW)
    assert mixed == transfer_numbers(base, gated, **FEW)


def test_missing_prompts_and_missing_seeds_are_errors() -> None:
    base, gated = made_up(2.0, 1.0)
    for wrong in ((base[1:], gated), (base, gated[1:]), (base, pd.concat([gated, gated[:1]]))):
        with pytest.raises(InputError, match="same prompts, once each"):
            transfer_numbers(*wrong, **FEW)
    with pytest.raises(InputError, match="same seeds and strengths"):
        transfer_numbers(base, gated[(gated["seed"] == 0) | (gated["trained"] != "medical")], **FEW)
