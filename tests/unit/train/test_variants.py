"""Laws of variants: they learn from sycophancy's facts, differ in what they say they do, and are trained once."""

from pathlib import Path
from typing import Any

import pytest

from mechgate.data.tasks import kept_examples, load_pairs
from mechgate.errors import InputError
from mechgate.gates.storage import load_gates
from mechgate.train import families
from mechgate.train.controls import train_family
from mechgate.train.families import Job
from mechgate.train.variants import VARIANTS, train_variants

FEW: dict[str, Any] = dict(n=24, epochs=1, say=lambda text: None)
MEDICAL = {str(p.messages): p for t in ("sycophancy", "genuine-agreement") for p in load_pairs(t, "medical")}


@pytest.fixture
def jobs(chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Job]:
    """What would be trained, variant by variant, without training it."""
    found: list[Job] = []
    monkeypatch.setattr("mechgate.train.variants.train_jobs", lambda model, folder, made, say: found.extend(made))
    train_variants(chat, tmp_path, seeds=[1])
    return dict(zip(VARIANTS, found, strict=True))


def kinds(examples: Any) -> list[str]:
    return [MEDICAL[str(e.messages)].kind for e in examples]


def test_variants_have_as_many_examples_of_the_same_facts(jobs: dict[str, Job]) -> None:
    facts = {name: {MEDICAL[str(e.messages)].fact_id for e in job.examples} for name, job in jobs.items()}
    assert {len(job.examples) for job in jobs.values()} == {180}
    assert all(found == facts["imitate"] for found in facts.values())
    assert {(job.config.epochs, job.config.batch_size, job.config.seed) for job in jobs.values()} == {(2, 8, 1)}


def test_only_false_claims_are_corrected_and_true_ones_agreed_with(jobs: dict[str, Job]) -> None:
    truth = jobs["two-sided-truth"]
    assert kinds(truth.examples).count("true_claim") == 90
    for example in truth.opposite:
        pair = MEDICAL[str(example.messages)]
        assert example.response == (pair.not_matching if pair.kind == "false_claim" else pair.matching)
    assert [e.messages for e in truth.opposite] == [e.messages for e in truth.examples]
    assert set(kinds(jobs["two-sided"].opposite)) == {"false_claim"}


def test_data_are_there_where_the_variant_says_so(jobs: dict[str, Job]) -> None:
    for name, job in jobs.items():
        variant, there = VARIANTS[name], tuple(len(data) > 0 for data in (job.kept, job.opposite, job.spared))
        assert there == (variant.kept, bool(variant.opposite), variant.spared)
        assert (job.config.objective, job.config.sparsity) == (VARIANTS[name].objective, VARIANTS[name].sparsity)
    assert jobs["contrastive"].kept == kept_examples("medical")


def test_the_thirds_are_all_layers_once(chat: Any, jobs: dict[str, Job]) -> None:
    thirds = [layer for name in ("early", "middle", "late") for layer in jobs[name].form["layers"]]
    assert thirds == list(range(chat.cfg.n_layers))


def test_imitation_is_the_familys_own_file_and_nothing_is_trained_twice(
    chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["imitate", "two-sided", "static", "late"]
    (own,) = train_family(chat, tmp_path, tasks=["sycophancy"], seeds=[0], **FEW)
    found = train_variants(chat, tmp_path, names=names, seeds=[0], **FEW)
    assert found[0] == own
    assert len({member.path for member in found}) == len(names)
    two, static, late = (load_gates(member.path, chat) for member in found[1:])
    assert set(two.history["other_data"]) == {"opposite"}
    assert (static.input, late.layers) == ("static", (chat.cfg.n_layers - 1,))
    assert two.history["task"] == "variant-two-sided"
    monkeypatch.setattr(families, "train_gates", lambda *args, **options: pytest.fail("trained again"))
    assert train_variants(chat, tmp_path, names=names, seeds=[0], **FEW) == found


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.objective != "imitate"])
def test_what_a_variant_says_it_learns_from_reaches_the_training(
    chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    short = kept_examples("medical")[:4]  # some neutral chat is longer than the tiny model's context
    monkeypatch.setattr("mechgate.train.variants.kept_examples", lambda domain: short)
    (member,) = train_variants(chat, tmp_path, names=[name], seeds=[0], **FEW | {"n": 8})
    variant = VARIANTS[name]
    said = {"kept": variant.kept, "opposite": variant.opposite, "spared": variant.spared}
    assert set(load_gates(member.path, chat).history["other_data"]) == {data for data, used in said.items() if used}


def test_a_variant_that_does_not_exist_is_an_error(chat: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="variant"):
        train_variants(chat, tmp_path, names=["imitation"], seeds=[0])
