"""What the verdict must say on the real model: "not selective" of gates known to select nothing, "selective" of gates
that are selective by construction. Minutes each, so that only `make acceptance` runs them."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mechgate.analysis.behaviour import Material
from mechgate.analysis.dose import neutral_kl
from mechgate.data.sets import neutral_texts
from mechgate.data.tasks import load_pairs
from mechgate.gates.gateset import GateSet
from mechgate.gates.neutral import neutral_inputs
from mechgate.gates.nulls import null_gates
from mechgate.gates.storage import load_gates
from mechgate.measure.margins import stance_margins
from mechgate.model.prompts import collate, encode_text
from mechgate.referee import SelectivityReport, SelectivitySettings, selectivity
from mechgate.referee.design import shipped_material
from mechgate.train.controls import train_family
from mechgate.train.positive import train_positive_control

pytestmark = [pytest.mark.model, pytest.mark.acceptance, pytest.mark.timeout(3000)]
TASKS = ("sycophancy", "genuine-agreement", "sign-off")
# Exact null clouds do not enter the verdict; nulls and controls at equal dose do.
SETTINGS = SelectivitySettings(
    strengths=(-1.0, 1.0),
    facts=40,
    dose_facts=12,
    null_facts=6,
    families=(),
    exact_families=(),
    dosed_families=("row-sign", "static-mean", "dampener"),
    known=False,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder for all: what is measured without gates, and under gates known to damage, is measured once."""
    return tmp_path_factory.mktemp("verdicts")


@pytest.fixture(scope="module")
def trained(default_model: Any, folder: Path) -> dict[str, GateSet]:
    members = train_family(default_model, folder / "gates", tasks=TASKS, seeds=[0], say=lambda text: None)
    return {member.task: load_gates(member.path, default_model) for member in members}


def few_texts(material: Material) -> Material:
    """A share of the neutral texts; the items are all needed for power."""
    return dataclasses.replace(material, texts=dict(list(material.texts.items())[:60]))


def judged(model: Any, folder: Path, gates: GateSet, controls: dict[str, GateSet], **options: Any) -> SelectivityReport:
    rivals = {task: [one] for task, one in controls.items()}
    return selectivity(
        model, gates, None, rivals, folder=folder, say=lambda text: None, **{"settings": SETTINGS, **options}
    )


@pytest.fixture(scope="module")
def claims() -> Material:
    return few_texts(shipped_material(SETTINGS))


def sigma_of(report: SelectivityReport) -> dict[str, float]:
    return report.numbers["contexts"]["base"]["axes"]["all"][0]["sigma"]


def test_gates_trained_on_genuine_agreement_are_not_selective(
    default_model: Any, folder: Path, trained: dict[str, GateSet], claims: Material
) -> None:
    report = judged(
        default_model, folder, trained["genuine-agreement"], {"sign-off": trained["sign-off"]}, material=claims
    )
    assert report.verdict.outcome == "not selective"
    assert sigma_of(report)["high"] < 0.5


def test_a_dampener_that_moves_the_margin_is_not_selective(
    default_model: Any, folder: Path, trained: dict[str, GateSet], claims: Material
) -> None:
    texts = [text for text in neutral_texts("dev").values() if isinstance(text, str)][:8]
    neutral = neutral_inputs(default_model, collate([encode_text(default_model, text) for text in texts]))
    null = null_gates(trained["sycophancy"], family="head-dampener", seed=0, batch=neutral)
    pairs = load_pairs("sycophancy", None, "dev", phrasings=1)[:20]
    start = stance_margins(default_model, pairs).mean()

    def effect(strength: float) -> float:
        with null.attached(default_model, strength):
            return float(stance_margins(default_model, pairs).mean() - start)

    # The smallest dose at which it does something, chosen on dev facts; without effect there is nothing to judge. The
    # verdict's strength is the one whose sign the effect has.
    doses = [k for size in (4.0, 8.0, 12.0, 16.0, 20.0) for k in (size, -size)]
    moved = {k: effect(k) for k in doses}
    dose = next((k for k in doses if abs(moved[k]) > 1.0), None)
    assert dose is not None, f"no dose of the dampener moves the margin by a nat: {moved}"
    sign = 1.0 if moved[dose] > 0 else -1.0
    report = judged(
        default_model,
        folder,
        null.scaled(dose * sign),
        {"sign-off": trained["sign-off"]},
        material=claims,
        settings=SelectivitySettings(**{**SETTINGS.model_dump(), "strength": sign}),
    )
    assert report.verdict.outcome == "not selective", str(report)
    assert sigma_of(report)["high"] < 0.5


def test_an_inert_null_is_ineffective(
    default_model: Any, folder: Path, trained: dict[str, GateSet], claims: Material
) -> None:
    null = null_gates(trained["sycophancy"], family="row-sign", seed=0)
    (kl,) = neutral_kl(default_model, null, [-1.0], list(claims.texts.values())[:4])
    assert kl > 0
    report = judged(default_model, folder, null, {"sign-off": trained["sign-off"]}, material=claims)
    assert report.verdict.outcome == "ineffective"


def test_gates_that_are_selective_by_construction_are_selective(
    default_model: Any, folder: Path, trained: dict[str, GateSet], claims: Material
) -> None:
    gates = train_positive_control(default_model, seed=0)
    marked = {
        side: load_pairs(task, None, "test", phrasings=1)
        for side, task in (("wanted", "satire-claims"), ("unwanted", "encyclopedia-claims"))
    }
    report = judged(
        default_model,
        folder,
        gates,
        {task: trained[task] for task in ("sign-off", "sycophancy")},
        material=dataclasses.replace(claims, stance=marked),
    )
    assert report.verdict.outcome == "selective", str(report)
