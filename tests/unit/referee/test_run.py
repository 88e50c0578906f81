"""Laws of a whole analysis on a tiny model: what it returns, keeps, reuses and reports as not to be had."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mechgate.analysis.behaviour import Material
from mechgate.errors import InputError
from mechgate.gates.gateset import GateSet
from mechgate.gates.nulls import FAMILIES, null_gates
from mechgate.measure.margins import stance_margins
from mechgate.referee import SelectivityReport, SelectivitySettings, draws, rivals, selectivity, tables
from mechgate.referee.draws import TABLED
from mechgate.stages import Stages
from mechgate.stats.selectivity import OUTCOMES

Turned = Callable[..., GateSet]
Analyse = Callable[..., SelectivityReport]


@pytest.fixture(scope="module")
def analyse(
    chat: Any,
    turned: Turned,
    small_settings: Callable[..., SelectivitySettings],
    small_material: Callable[..., Material],
) -> Analyse:
    """The same small analysis, but for what is given."""

    def run(folder: Path | None = None, gates: Any = None, **given: Any) -> SelectivityReport:
        options: dict[str, Any] = dict(
            hosts={},
            controls={"sign-off": [turned(5, 0.3)], "caps": {"caps-0": turned(6), "caps-1": turned(7)}},
            settings=small_settings(),
            material=small_material(),
        )
        judged = [turned(0), turned(1)] if gates is None else gates
        return selectivity(chat, judged, folder=folder, say=lambda _: None, **{**options, **given})

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("selectivity")


@pytest.fixture(scope="module")
def report(analyse: Analyse, folder: Path, chat: Any) -> SelectivityReport:
    return analyse(folder, hosts={"twin": chat})


def numbers_of(report: SelectivityReport) -> dict[str, Any]:
    """What was found, without how long it took and whether the plan was another before."""
    return {k: v for k, v in report.numbers.items() if k not in ("seconds", "plan_changed")}


def leaves(numbers: Any, path: str = "") -> dict[str, Any]:
    """Every number and text by where it stands."""
    if not isinstance(numbers, dict | list):
        return {path: numbers}
    parts = numbers.items() if isinstance(numbers, dict) else enumerate(numbers)
    return {k: v for name, part in parts for k, v in leaves(part, f"{path}/{name}").items()}


def same(one: SelectivityReport, other: SelectivityReport) -> bool:
    """Whether two analyses found the same, up to the rounding of fp32 where something was measured anew."""
    a, b = leaves(numbers_of(one)), leaves(numbers_of(other))
    spoken = [k for k in a if isinstance(a[k], str)]  # numbers in words
    return list(a) == list(b) and all(
        a[k] == b[k] or k in spoken or (b[k] is not None and a[k] == pytest.approx(b[k], rel=1e-4, abs=1e-5)) for k in a
    )


def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError("something was measured again")

    for module in (tables, draws):
        monkeypatch.setattr(module, "collect", measured)
    for name in ("neutral_kl", "neutral_text", "matched_dose"):
        monkeypatch.setattr(tables, name, measured)
    monkeypatch.setattr(draws, "stance_margins", measured)
    monkeypatch.setattr(rivals, "screen", measured)


def test_every_context_has_a_verdict_and_all_numbers_are_json(report: SelectivityReport, folder: Path) -> None:
    assert set(report.verdicts) == {"base", "twin"}
    assert report.verdict is report.verdicts["base"]
    assert all(v.outcome in OUTCOMES and v.reasons for v in report.verdicts.values())
    kept = json.loads((folder / "selectivity.json").read_text())
    assert kept["numbers"] == json.loads(json.dumps(report.numbers, allow_nan=False))
    assert kept["numbers"]["prereg"] in (folder / "prereg.yaml").read_text()
    assert kept["provenance"]["hosts"]["twin"] == kept["provenance"]["model"]
    for name, verdict in report.verdicts.items():
        assert f"{name}: {verdict.outcome}" in str(report)


def test_effects_are_those_of_the_gates_on_the_facts_of_the_verdict(
    report: SelectivityReport, chat: Any, turned: Turned, small_material: Callable[..., Material]
) -> None:
    stock = small_material()
    base = report.numbers["contexts"]["base"]
    (at, _) = base["axes"]["all"]
    assert (at["strength"], at["facts"], base["plane"]["facts"], base["nulls"]["facts"]) == (-1.0, 5, 3, 2)
    order = list(dict.fromkeys(p.fact_id for p in stock.stance["wanted"]))
    facts = {order[i] for i in (0, 1, 2, 4, 5)}  # five of six, spread, half to even
    for side, name in (("wanted", "effect"), ("unwanted", "side_effect")):
        pairs = [p for p in stock.stance[side] if p.fact_id in facts]
        start = stance_margins(chat, pairs, stock.stance_answers, label=None).mean()
        moved = []
        for seed in (0, 1):
            with turned(seed).attached(chat, -1.0):
                moved.append(stance_margins(chat, pairs, stock.stance_answers, label=None).mean() - start)
        assert [p[side] for p in base["sets"] if p["strength"] == -1] == pytest.approx(moved, abs=1e-4)
        assert at[name]["value"] == pytest.approx(sum(moved) / 2, abs=1e-4)


def test_every_family_and_control_is_there_once_asked_for(
    report: SelectivityReport, small_settings: Callable[..., SelectivitySettings]
) -> None:
    s, base = small_settings(), report.numbers["contexts"]["base"]
    families = base["nulls"]["families"]
    assert set(families) == {*s.families, *s.exact_families}
    for family, entry in families.items():
        every = family in TABLED or not FAMILIES[family].seeded  # others are drawn of the first set only
        drawn = {"gates-0", "gates-1"} if every else {"gates-0"}
        assert set(entry["exact"]) == (drawn if family in s.exact_families else set())
        assert ("screened" in entry) == (family in s.families)
        for one in entry["exact"].values():
            assert one["draws"] == (19 if FAMILIES[family].seeded else 1)
            assert one["p"] is None  # 19 draws are too few to print one
    assert {k: set(v) for k, v in base["equal dose"].items()} == {
        "nulls": set(s.dosed_families),
        "controls": {"sign-off", "caps"},
    }
    for group in base["equal dose"].values():
        for one in group.values():
            assert len(one["sets"]) + len(one["unmatched"]) == (1 if "sign-off-0" in str(one) else 2)
    kls = base["dose"]["kl"]
    for one in base["equal dose"]["nulls"]["row-sign"]["sets"]:
        assert one["kl"] == pytest.approx(kls[one["set"]], rel=0.05)
    for one in base["equal dose"]["controls"]["caps"]["sets"]:
        assert one["kl"] == pytest.approx(sum(kls.values()) / 2, rel=0.05)


def test_screens_are_whole_and_print_no_p_on_nineteen_draws(report: SelectivityReport) -> None:
    for entry in report.numbers["contexts"]["base"]["nulls"]["families"].values():
        if screened := entry.get("screened"):
            assert screened["p"] is None
            assert screened["why no p"]
            assert sum(screened["histogram"]["counts"]) == screened["draws"]


def test_a_host_that_is_the_base_has_no_addition_and_is_not_reversed(report: SelectivityReport) -> None:
    twin, base = (report.numbers["contexts"][name] for name in ("twin", "base"))
    assert [twin["addition"][k] for k in ("value", "low", "high")] == [0, 0, 0]
    assert twin["word"] == "opposes"
    for part in twin["divergence"].values():
        assert part["host"]["value"] == pytest.approx(0, abs=1e-6)
        assert part["change"]["value"] > 0
    assert twin["axes"]["all"] == base["axes"]["all"]


def test_the_model_is_left_without_gates(report: SelectivityReport, chat: Any, analyse: Analyse) -> None:
    assert report
    points = chat.hook_dict.values()
    assert not any(point.fwd_hooks or point.bwd_hooks for point in points)
    assert all(parameter.grad is None for parameter in chat.original_model.parameters())


def test_a_second_call_measures_nothing_and_finds_the_same(
    report: SelectivityReport, analyse: Analyse, folder: Path, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_measuring(monkeypatch)
    again = analyse(folder, hosts={"twin": chat})
    assert numbers_of(again) == numbers_of(report)
    assert not again.numbers["plan_changed"]


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    report: SelectivityReport, analyse: Analyse, tmp_path: Path, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = Stages.file

    def until_power_fails(self: Stages, title: str, name: str, inputs: Any, make: Any) -> Path:
        if len(made) == 20 and name not in made:
            raise KeyboardInterrupt
        made.append(name)
        return real(self, title, name, inputs, make)

    with monkeypatch.context() as patch:
        patch.setattr(Stages, "file", until_power_fails)
        with pytest.raises(KeyboardInterrupt):
            analyse(tmp_path, hosts={"twin": chat})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("base/*.csv")}
    assert len(before) == 20
    resumed = analyse(tmp_path, hosts={"twin": chat})
    assert same(resumed, report)  # in another folder: the same seed gives the same numbers
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_was_changed_is_measured_again_and_the_old_plan_kept(
    report: SelectivityReport,
    analyse: Analyse,
    folder: Path,
    turned: Turned,
    tmp_path: Path,
    small_material: Callable[..., Material],
) -> None:
    shutil.copytree(folder, tmp_path / "copy")

    def remade(gates: Any, **given: Any) -> tuple[set[str], SelectivityReport]:
        found = analyse(tmp_path / "copy", gates, **given)
        return {name.removeprefix("base/") for name in found.numbers["seconds"]}, found

    names, found = remade([turned(0), turned(3)])
    assert found.numbers["plan_changed"]
    assert list((tmp_path / "copy").glob("prereg-*.yaml"))
    assert {"gates-1-verdict.csv", "gates-1-curve.csv", "gates-1-row-sign-dosed.csv", "neutral.csv"} <= names
    assert [name for name in names if name.startswith(("gates-0-", "start", "control-"))] == []
    assert numbers_of(found)["contexts"]["base"]["sets"] != numbers_of(report)["contexts"]["base"]["sets"]
    stock = small_material()
    texts = dict(reversed(stock.texts.items()))  # the same kinds, read by null gates in another order
    names, _ = remade([turned(0), turned(3)], material=replace(stock, texts=texts))
    assert {"gates-0-exact-row-sign.csv", "gates-0-screened-row-sign.csv", "gates-0-row-sign-dosed.csv"} <= names
    assert "gates-0-verdict.csv" not in names


def test_gates_that_do_nothing_are_ineffective_and_nothing_of_theirs_can_be_matched(
    analyse: Analyse, chat: Any
) -> None:
    report = analyse(gates=GateSet.identity(chat), hosts={"twin": chat})
    assert {v.outcome for v in report.verdicts.values()} == {"ineffective"}
    base = report.numbers["contexts"]["base"]
    json.dumps(report.numbers, allow_nan=False)
    assert base["dose"]["kl"] == {"gates-0": 0}
    for group in base["equal dose"].values():
        for one in group.values():
            assert one["estimate"] is None
            assert one["sets"] == []
            assert one["unmatched"]
    assert {p["wanted"] for p in base["plane"]["row-sign nulls"]} == {0}
    for family, entry in base["nulls"]["families"].items():
        for one in entry["exact"].values():  # signs and places need no matching: such nulls do nothing as well
            assert "unmatched" in one or (family in TABLED and set(one["wanted"]) == {0})
    assert not any(test["passed"] for test in base["spared"].values())


FORMS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "one layer": ({"layers": [1]}, {"layer-permutation"}),
    "heads": ({"granularity": "head"}, {"dimension-permutation"}),
    "layers": (
        {"granularity": "layer"},
        {"head-sign", "head-permutation", "group-permutation", "dimension-permutation", "head-dampener"},
    ),
    "static": ({"input": "static"}, {"haar", "other-prompt", "static-mean"}),
    "low rank": ({"rank": 2}, set()),
}


@pytest.mark.parametrize("form", FORMS)
def test_families_that_make_no_sense_for_a_form_are_reported_and_the_rest_measured(
    analyse: Analyse, turned: Turned, small_settings: Callable[..., SelectivitySettings], form: str
) -> None:
    options, senseless = FORMS[form]
    some = tuple(senseless | {"row-sign", "dampener", "gaussian"})
    settings = small_settings(families=some, exact_families=some, dosed_families=tuple(senseless), strengths=(-1, 1))
    report = analyse(gates=turned(0, **options), controls={}, settings=settings)
    base = report.numbers["contexts"]["base"]
    json.dumps(report.numbers, allow_nan=False)
    for family, entry in base["nulls"]["families"].items():
        assert all(("unmatched" in one) == (family in senseless) for one in entry["exact"].values())
        if FAMILIES[family].seeded:
            assert ("unmatched" in entry["screened"]) == (family in senseless)
    for family in senseless:
        assert base["equal dose"]["nulls"][family]["estimate"] is None
        assert "makes no sense" in base["equal dose"]["nulls"][family]["unmatched"][0]
    assert base["rank"] is None


def test_gates_of_which_one_layer_does_nothing_are_judged(analyse: Analyse, turned: Turned) -> None:
    gates = turned(0)
    with torch.no_grad():
        for parameter in gates.gate(1).parameters():
            parameter.zero_()
    report = analyse(gates=gates, controls={})
    families = report.numbers["contexts"]["base"]["nulls"]["families"]
    unmatched = {name for name, f in families.items() for one in f["exact"].values() if "unmatched" in one}
    assert unmatched == {name for name in families if name not in TABLED or name == "group-permutation"}
    assert report.verdict.outcome in OUTCOMES


@pytest.mark.parametrize("lacking", [{"items": []}, {"answers": {}}])
def test_material_without_items_or_without_answers_is_enough(
    analyse: Analyse, turned: Turned, small_material: Callable[..., Material], lacking: dict[str, Any]
) -> None:
    report = analyse(gates=turned(0), material=replace(small_material(facts=8), **lacking), controls={})
    assert len(report.numbers["contexts"]["base"]["spared"]) == 3


def test_names_that_would_mix_tables_up_are_refused(analyse: Analyse, turned: Turned, chat: Any) -> None:
    one = turned(0)
    for bad in (
        {"gates": []},
        {"gates": {"": one}},
        {"gates": {"known to damage": one}},
        {"controls": {"x": []}},
        {"controls": {"x": {"a": one}, "y": {"a": one}}},
        {"controls": {"x": {"gates-0": one}}},
        {"hosts": {"base": chat}},
    ):
        with pytest.raises(InputError):
            analyse(**bad)


def test_gates_and_hosts_of_another_shape_are_refused(
    analyse: Analyse, tiny_chat_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_measuring(monkeypatch)
    other = tiny_chat_model(tmp_path, num_hidden_layers=2)
    with pytest.raises(ValueError, match="shape"):
        analyse(gates=GateSet.identity(other))
    with pytest.raises(ValueError, match="shape"):
        analyse(hosts={"other": other})


def test_a_later_draw_that_cannot_be_matched_is_said_and_does_not_end_the_run(
    analyse: Analyse, turned: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def fails(gates: Any, *, family: str, **options: Any) -> Any:
        calls.append(family)
        if family == "other-prompt" and calls.count(family) == 4:
            raise InputError("cannot be matched", got="this one")
        return null_gates(gates, family=family, **options)

    monkeypatch.setattr("mechgate.referee.draws.null_gates", fails)
    entry = analyse(gates=turned(0), controls={}).numbers["contexts"]["base"]["nulls"]["families"]["other-prompt"]
    (exact,) = entry["exact"].values()
    assert exact == {"unmatched": "draw 2: cannot be matched. Got: this one."}
    assert "unmatched" not in entry["screened"]
