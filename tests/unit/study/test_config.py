"""Laws of a study's config: what is wrong is said before anything runs, presets fill what is left out, dumps come back."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mechgate.errors import DataError, InputError
from mechgate.study.ask import ASK, SETTINGS
from mechgate.study.config import PRESETS, QUESTIONS, StudyConfig, checked, load_config, template
from mechgate.study.perform import settings_checked
from mechgate.study.steps import minutes, planned


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dump_comes_back_as_the_same_study(preset: str, tmp_path: Path) -> None:
    config = StudyConfig.of_preset(preset)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.dump()), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("preset", PRESETS)
def test_the_template_is_its_preset(preset: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(template(preset), encoding="utf-8")
    assert load_config(tmp_path / "study.yaml") == StudyConfig.of_preset(preset)


def test_every_comment_of_the_template_is_a_setting_that_works(tmp_path: Path) -> None:
    # "# name: value" lines without the mark, but for the files that are only examples.
    lines = [line.removeprefix("# ") for line in template().splitlines()[1:] if line.startswith("#")]
    lines = [
        line
        for line in lines
        if line.split(":")[0] in {*StudyConfig.model_fields} - {"gates", "data"} or line[:2] == "  "
    ]
    path = tmp_path / "study.yaml"
    path.write_text("\n".join(["preset: full", *lines]), encoding="utf-8")
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) >= {
        "dtype",
        "seeds",
        "domain",
        "controls",
        "hosts",
        "settings",
    }
    settings_checked(load_config(path))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"modle": "x"}, "modle"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": ["one"]}, "seeds"),
        ({"domain": "astrology"}, "astrology"),
        ({"gates": ["nowhere.safetensors"]}, "nowhere.safetensors"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"controls": ["sing-off"]}, "sing-off"),
        ({"hosts": ["gates-sycophancy"]}, "gates-sycophancy"),
        ({"hosts": ["nowhere"]}, "nowhere"),
        ({"variants": ["three-sided"]}, "three-sided"),
        ({"questions": ["why"]}, "why"),
        ({"questions": []}, "at least one"),
        ({"settings": {"why": {}}}, "why"),
        ({"transfer_domains": ["medical"]}, "two domains"),
        ({"transfer_domains": ["medical", "astrology"]}, "astrology"),
        ({"examples": 0}, "examples"),
        ({"lr": 0}, "lr"),
        ({"sae_tokens": 5}, "sae_tokens"),
    ],
)
def test_what_cannot_be_used_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        checked(values)


def test_gates_and_data_exclude_each_other(tmp_path: Path) -> None:
    for name in ("g.safetensors", "d.jsonl"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="not both"):
        checked({"gates": [str(tmp_path / "g.safetensors")], "data": str(tmp_path / "d.jsonl")})


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [", "\x00"])
def test_a_file_that_is_no_study_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"s\.yaml"):
        load_config(tmp_path / "s.yaml")
    with pytest.raises(DataError, match="nowhere"):
        load_config(tmp_path / "nowhere.yaml")


def test_paths_are_taken_from_the_folder_of_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.safetensors").write_text("x", encoding="utf-8")
    (tmp_path / "study.yaml").write_text("gates: [mine.safetensors]\n", encoding="utf-8")
    monkeypatch.chdir("/")
    assert load_config(tmp_path / "study.yaml").gates == (tmp_path / "mine.safetensors",)


def test_wrong_settings_of_a_question_are_found_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"similarity.*layres"):
        settings_checked(checked({"settings": {"similarity": {"layres": [1]}}, "questions": ["similarity"]}))
    with pytest.raises(InputError, match=r"patching.*facts"):
        settings_checked(checked({"settings": {"patching": {"facts": 1}}, "questions": ["patching"]}))


def test_every_question_has_settings_and_a_call() -> None:
    assert tuple(ASK) == tuple(SETTINGS) == QUESTIONS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_plan_names_every_step_once_and_trains_before_it_asks(preset: str) -> None:
    config = StudyConfig.of_preset(preset)
    steps = planned(config)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    kinds = [step.kind == "question" for step in steps]
    assert kinds == sorted(kinds)
    assert [step.about for step in steps if step.kind == "question"] == list(config.questions)
    cost = minutes(config, 134.5e6)
    assert set(cost) == set(names)
    assert all(value > 0 for value in cost.values())


def test_own_gates_are_not_trained_and_own_data_is() -> None:
    plan = planned(StudyConfig.of_preset("quick"))
    assert [s.about for s in plan if s.kind == "gates"] == ["sycophancy", "genuine-agreement", "sign-off"]
