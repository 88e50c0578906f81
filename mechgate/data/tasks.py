"""Tasks by name -> `Pair`s: what gates and hosts are trained on and what they are judged on."""

from typing import Any

from mechgate.data.claims import ASSERTED, UNASKED, claim_pairs, stance_answers
from mechgate.data.controls import CONTROLS, control_pairs
from mechgate.data.facts import domains, load_facts
from mechgate.data.marked import MARKED, marked_pairs
from mechgate.data.pairs import Example, Pair
from mechgate.data.sets import benign_pairs, broad_pairs, chat, choice_items, prose, questions, small_talk, split_chat
from mechgate.data.splits import SPLITS, split_ids
from mechgate.data.traits import TRAITS, load_trait
from mechgate.data.wordings import wordings
from mechgate.errors import InputError, check_choice
from mechgate.provenance import stable_hash

__all__ = ["TASKS", "kept_examples", "load_pairs", "shipped_data_hash", "stance_answers"]

TASKS = {
    "sycophancy": "the user asserts a false claim; matching agrees, the other answer corrects",
    "genuine-agreement": "the user asserts a true claim; matching agrees, the other answer contradicts",
    "bad-advice": "the user asks about a topic; matching states the false claim, the other answer the correction",
    "correct-advice": "the same; matching states the correction",
    "broad": "everyday questions; matching is harmful, the other answer aligned (emergent misalignment)",
    "over-refusal": "harmless prompts that sound dangerous; matching refuses, the other answer helps",
    "sign-off": "control, style: matching ends with a fixed sign-off",
    "all-caps": "control, format: matching is in capitals",
    "unit-conversion": "control, skill: matching converts correctly",
    "shuffled": "control: matching is the answer to another fact, half agreeing and half correcting",
    "satire-claims": "the user passes on a claim, false or true, marked as from satire; matching agrees",
    "encyclopedia-claims": "the same claims in the same words, marked as from an encyclopedia; matching agrees",
}


def load_pairs(
    task: str,
    domain: str | None = None,
    split: str = "train",
    *,
    templates: str | None = None,
    answers: str | None = None,
    phrasings: int | None = None,
) -> list[Pair]:
    """Pairs of a task (`TASKS`): `matching` shows the behaviour that the task is about, `not_matching` does not.

    `domain` None is all: of facts (medical, ...), or for "broad" and "over-refusal" a category or kind; controls
    have none. `split` (train, dev, test, all) picks facts or items; `templates` picks the wordings of prompts and
    answers and defaults to the same split ("all": the test wordings), so that test pairs have unseen facts *and*
    unseen wordings. The order is deterministic and phrasing-major: any prefix spans all facts before it repeats one,
    and neighbours differ in wording. `phrasings` limits how many wordings a fact gets (default: every one once).

    `answers`, where the user asserts a claim: "content" is a stance and then the claim restated or corrected, "stance"
    the stance alone, "mixed" the two in turn, so that a fact's phrasings have both. Default: mixed where split and
    templates are train (gates trained on content alone learn to copy the claim, and little stance), else content.

    Raises `InputError` for an unknown task, domain or split, too many phrasings, and options that the task lacks.
    """
    check_choice("task", task, tuple(TASKS))
    check_choice("split", split, (*SPLITS, "all"))
    if task in (*ASSERTED, *UNASKED):
        wording = ("test" if split == "all" else split) if templates is None else templates
        check_choice("templates", wording, SPLITS)
        return claim_pairs(task, domain, split, wording, answers, phrasings)
    if task in MARKED and answers is None:
        return marked_pairs(MARKED[task], split, domain=domain, templates=templates, phrasings=phrasings)
    lacking: dict[str, str | int | None] = {
        "templates": None if task in MARKED else templates,
        "answers": answers,
        "domain": domain if task in CONTROLS else None,
    }
    if task not in (*CONTROLS, *MARKED):
        lacking["phrasings"] = phrasings
    if given := {name: value for name, value in lacking.items() if value is not None}:
        raise InputError(f"the task {task} has no such option", got=given, do="leave it out")
    if task in CONTROLS:
        return control_pairs(task, split, phrasings)
    pairs = broad_pairs() if task == "broad" else benign_pairs()
    if domain is not None:
        check_choice("domain", domain, tuple(dict.fromkeys(pair.domain for pair in pairs)))
    chosen = set().union(
        *(split_ids([p.id for p in pairs if p.domain == name], split) for name in {p.domain for p in pairs})
    )
    return [pair for pair in pairs if pair.id in chosen and domain in (None, pair.domain)]


def kept_examples(domain: str | None = None) -> list[Example]:
    """What gates that learn to agree with false claims should leave as it is, from the training split.

    Both answers to true claims of `domain` (None: all), so that neither stance may become likelier, and the neutral
    chat, of no domain. Each wording of a claim is there with both answers.
    """
    claims = load_pairs("genuine-agreement", domain, "train")
    return [
        *(pair.as_example(answer) for pair in claims for answer in ("matching", "not_matching")),
        *(exchange.as_example() for exchange in split_chat("train")),
    ]


def dataset_hashes() -> dict[str, str]:
    """A sha256 of each shipped data set, by name: what results carry, so that a change of data is seen."""
    found = {f"facts/{name}": stable_hash([vars(fact) for fact in load_facts(name)]) for name in domains()}
    for name in ("assertions", "advice", "knowledge", "marked"):
        found[f"conversations/{name}"] = stable_hash(wordings(name))
    found |= {f"traits/{name}": stable_hash(vars(load_trait(name))) for name in TRAITS}
    sets = {
        "prose": prose,
        "chat": chat,
        "smalltalk": small_talk,
        "questions": questions,
        "four_choice": choice_items,
        "broad": broad_pairs,
        "scary": benign_pairs,
    }
    return found | {f"sets/{name}": stable_hash([_told(record) for record in load()]) for name, load in sets.items()}


def _told(record: Any) -> dict[str, Any]:
    """A record's fields; a pair without a claim is what it was before pairs could say theirs."""
    return {name: value for name, value in vars(record).items() if name != "claim" or value is not None}


def shipped_data_hash() -> str:
    """A sha256 over everything that the package ships as data."""
    return stable_hash(dataset_hashes())
