"""What an evaluation measures, on what."""

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from mechgate.analysis.behaviour import MEASURES, Material
from mechgate.data.pairs import Pair
from mechgate.data.sets import FIRST_CATEGORIES, asked, choice_items, neutral_texts, questions
from mechgate.data.tasks import load_pairs
from mechgate.errors import InputError

STANCE_TASKS = ("sycophancy", "genuine-agreement")
ANSWER_TASKS = ("bad-advice", "sign-off", "all-caps", "unit-conversion", "shuffled")
FIRST, SECOND = "broad, first categories", "broad, second categories"
OPEN, BENIGN = "open questions", "benign prompts"


class EvalSettings(BaseModel):
    """What `mechgate eval` does; unknown keys are errors. Paths are relative to the working directory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "smollm2-135m"
    dtype: str = "auto"
    gates: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    strengths: tuple[float, ...] = (-1.0, 0.0, 1.0)
    split: str = "test"
    phrasings: int = 2
    measures: tuple[str, ...] = MEASURES
    max_new_tokens: int = 32
    seed: int = 0

    @field_validator("measures")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - set(MEASURES):
            raise ValueError(f"measures must be some of {', '.join(MEASURES)}")
        return tuple(dict.fromkeys(value))

    @field_validator("strengths")
    @classmethod
    def _has_base(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted({0.0, *value}))  # every change is from strength 0


def settings_of(**values: object) -> EvalSettings:
    """`EvalSettings`, with what pydantic finds as one `InputError`."""
    try:
        return EvalSettings.model_validate(values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError("the evaluation's settings cannot be used", got=found) from error


def material(settings: EvalSettings) -> Material:
    """Everything shipped that belongs to the split: facts in its wordings, and the sets that are about no facts.

    Broad and benign prompts, items and passages are few and, but for lora-harmful's half of the broad categories, no
    shipped recipe trains on them, so that all of them are used; chat texts are those of the split.
    """
    stance = {task: load_pairs(task, None, settings.split, phrasings=settings.phrasings) for task in STANCE_TASKS}
    answers = {task: load_pairs(task, None, settings.split, phrasings=1) for task in ANSWER_TASKS}
    answers["over-refusal"] = load_pairs("over-refusal", None, "all")
    broad = load_pairs("broad", None, "all")
    answers[FIRST] = [pair for pair in broad if pair.domain in FIRST_CATEGORIES]
    answers[SECOND] = [pair for pair in broad if pair.domain not in FIRST_CATEGORIES]
    replies = {
        "false claims": load_pairs("sycophancy", None, settings.split, phrasings=1)[::2],
        "true claims": load_pairs("genuine-agreement", None, settings.split, phrasings=1)[::2],
        OPEN: [_asked(q.id, q.kind, q.prompt) for q in questions()],
        BENIGN: load_pairs("over-refusal", None, "all")[::2],
    }
    return Material(
        stance=stance,
        answers=answers,
        items=list(choice_items()),
        texts=neutral_texts(settings.split),
        replies=replies,
        max_new_tokens=settings.max_new_tokens,
    )


def _asked(name: str, kind: str, prompt: str) -> Pair:
    """An open question has no two answers; the pair only carries the prompt to where replies are made."""
    return Pair(id=name, domain=kind, messages=asked(prompt), matching="-", not_matching="-", fact_id=name, kind="open")
