"""What the demo asks: its settings, the prompts it is judged on, and the plan that is fixed before the test split is read."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from mechgate.analysis import reversal
from mechgate.data.pairs import Example, Pair
from mechgate.data.tasks import load_pairs, shipped_data_hash, stance_answers
from mechgate.model.devices import choose_device, choose_dtype
from mechgate.report.verdicts import CRITERIA
from mechgate.stages import preregister

QUESTION = "Does one dial, strength, turn sycophancy on unseen facts, domains and wordings, and in a LoRA host?"
MEDICAL, OTHERS, TRUE = "false, medical", "false, other domains", "true, all domains"
SEEN = "training wordings"


class DemoSettings(BaseModel):
    """What the demo does; the defaults are what `make demo` runs. Unknown keys are errors.

    Gates and host learn from medical facts; `others` are the domains they never saw, of which `other_facts` test facts
    each are used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "smollm2-135m"
    dtype: str = "auto"
    seed: int = 0
    others: tuple[str, ...] = ("finance", "science", "security")
    other_facts: int = 10
    strengths: tuple[float, ...] = (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
    host_strengths: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0)
    null_strengths: tuple[float, ...] = (-1.0, 1.0)
    null_draws: int = 5
    reply_strengths: tuple[float, ...] = (-1.0, 0.0, 1.0)
    phrasings: int = 6
    gate_epochs: int = 2
    host_lr: float = 2e-4
    host_epochs: int = 1

    @model_validator(mode="after")
    def _check_strengths(self) -> "DemoSettings":
        """The verdict needs these; without them it would fail after everything had been measured."""
        needed = {
            "host_strengths": (-2.0, -1.0, 0.0),
            "null_strengths": (-1.0, 1.0),
            "reply_strengths": (-1.0, 0.0, 1.0),
        }
        for name, values in needed.items():
            if missing := sorted(set(values) - set(getattr(self, name))):
                raise ValueError(f"{name} must have {missing} too")
        return self

    @property
    def used_dtype(self) -> str:
        """The dtype that "auto" means on this machine: all arms share it, and results say it."""
        return str(choose_dtype(self.dtype, choose_device("auto"))).removeprefix("torch.")


def training_examples(settings: DemoSettings) -> list[Example]:
    """What gates and host are trained on: the agreeing answers to false medical claims."""
    found = load_pairs("sycophancy", "medical", "train", phrasings=settings.phrasings)
    return [pair.as_example("matching") for pair in found]


def unseen_pairs(task: str, names: Iterable[str], limit: int | None = None, *, seen: bool = False) -> list[Pair]:
    """Test facts of some domains (the first `limit` of each), one wording each: an unseen one, or one of training."""
    templates = "train" if seen else "test"
    return [
        pair
        for name in names
        for pair in load_pairs(task, name, "test", templates=templates, answers="content", phrasings=1)[:limit]
    ]


def judged_sets(settings: DemoSettings) -> reversal.Sets:
    """The prompts the demo is judged on, one unseen wording a fact: false claims in and out of the domain, true claims."""
    return {
        MEDICAL: unseen_pairs("sycophancy", ["medical"]),
        OTHERS: unseen_pairs("sycophancy", settings.others, settings.other_facts),
        TRUE: true_claims(settings),
    }


def true_claims(settings: DemoSettings) -> list[Pair]:
    """The true claims that match the judged false ones, fact by fact."""
    medical = unseen_pairs("genuine-agreement", ["medical"])
    return [*medical, *unseen_pairs("genuine-agreement", settings.others, settings.other_facts)]


def seen_sets(settings: DemoSettings) -> reversal.Sets:
    """The same unseen facts, asked and answered in the wordings of training."""
    return {
        f"{MEDICAL}, {SEEN}": unseen_pairs("sycophancy", ["medical"], seen=True),
        f"{OTHERS}, {SEEN}": unseen_pairs("sycophancy", settings.others, settings.other_facts, seen=True),
    }


def reply_pairs(settings: DemoSettings) -> tuple[list[Pair], list[Pair]]:
    """The false and the true claims that get free replies: every other judged fact."""
    sets = judged_sets(settings)
    return [*sets[MEDICAL], *sets[OTHERS]][::2], sets[TRUE][::2]


def write_plan(folder: Path, settings: DemoSettings) -> str:
    """Write down what will be measured and what would count, before the test split is read; returns its hash."""
    plan = {
        "question": QUESTION,
        "metric": "stance margin: mean over answer pairs of summed log p(agree) - log p(disagree), nats; change from s = 0",
        "answer pairs": [list(pair) for pair in stance_answers()],
        "criteria": CRITERIA,
        "selectivity": f"sigma = 1 - A/E, where E's interval clears {reversal.EFFECT_BOUND} nats; "
        f"'not selective' where sigma's interval lies below {reversal.SIGMA_BOUND}",
        "splits": "facts and wordings are both split into train, dev and test; judged on test facts in test wordings",
        "data": shipped_data_hash(),
        "settings": settings.model_dump(mode="json"),
    }
    return preregister(folder, plan)
