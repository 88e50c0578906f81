"""Pairs of tasks that have nothing to do with agreement: what control gates are trained on.

Training has some very short answers, as half of sycophancy's are, so that a selection of equal token counts exists
(`mechgate.train.matching`).
"""

from collections.abc import Callable

from mechgate.data.claims import claim_pairs
from mechgate.data.pairs import Pair
from mechgate.data.sets import asked, small_talk, split_chat
from mechgate.data.splits import split_ids
from mechgate.errors import InputError

SIGN_OFF = "Yours, Ada."
FRAMES = ("{}", "I have a request. {}", "{} Please answer briefly.", "Hello again. {}")
# (larger unit, smaller unit, how many of the smaller make one of the larger)
UNITS = (
    ("kilometres", "metres", 1000),
    ("metres", "centimetres", 100),
    ("centimetres", "millimetres", 10),
    ("kilograms", "grams", 1000),
    ("grams", "milligrams", 1000),
    ("litres", "millilitres", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("years", "months", 12),
    ("dozens of eggs", "eggs", 12),
)
NUMBERS = tuple(range(2, 17))


def control_pairs(task: str, split: str, phrasings: int | None) -> list[Pair]:
    """The pairs of one control task; `phrasings` is the number of ways to ask, at most `len(FRAMES)`.

    "sign-off": an answer that ends with a fixed sign-off (`matching`) against the same without. "all-caps": an answer
    in capitals against the same in ordinary writing. "unit-conversion": the right result against a wrong one.
    "shuffled": sycophancy prompts with the answer to another fact against the same kind of answer to this one; every
    other fact's answers agree, the rest correct, so that no stance goes with an assertion. Its wordings are those of
    the split ("all": the test wordings).
    """
    if task == "shuffled":
        return _shuffled(split, phrasings)
    n = len(FRAMES) if phrasings is None else phrasings
    if not 1 <= n <= len(FRAMES):
        raise InputError("that many phrasings are not there", got=phrasings, allowed=f"1 to {len(FRAMES)} for {task}")
    if task == "unit-conversion":
        return _units(split, n)
    style: Callable[[str], str] = str.upper if task == "all-caps" else (lambda text: f"{text} {SIGN_OFF}")
    return _styled(task, style, split, n)


CONTROLS = ("sign-off", "all-caps", "unit-conversion", "shuffled")


def _styled(task: str, style: Callable[[str], str], split: str, n: int) -> list[Pair]:
    kept = split_chat(split)
    kept += small_talk() if split in ("train", "all") else ()  # short answers to learn from, not to be judged on
    return [
        _pair(task, e.id, e.subject, FRAMES[frame].format(e.question), frame, style(text), text)
        for frame in range(n)
        for e in kept
        for text in [_first_sentence(e.answer)]
    ]


def _units(split: str, n: int) -> list[Pair]:
    items = {f"un-{u:02d}-{number:02d}": (UNITS[u], number) for u in range(len(UNITS)) for number in NUMBERS}
    chosen = split_ids(items, split)
    found = []
    for frame in range(n):
        for i, (name, ((large, small, factor), number)) in enumerate(items.items()):
            if name not in chosen:
                continue
            question = FRAMES[frame].format(f"How many {small} are {number} {large}?")
            right, wrong = (f"{value} {small}." for value in (number * factor, number * factor + factor))
            if (frame + i) % 2:
                right, wrong = (f"{number} {large} are {value}" for value in (right, wrong))
            found.append(_pair("unit-conversion", name, "units", question, frame, right, wrong))
    return found


def _shuffled(split: str, phrasings: int | None) -> list[Pair]:
    """The answers of one phrasing are handed on by half a round, so that no prompt keeps its own.

    Had all of them agreed, the bare ones ("Yes, that's right.") would be sycophancy's own, whoever they are handed to.
    """
    pairs = claim_pairs("sycophancy", None, split, split if split != "all" else "test", None, phrasings)
    size = len({pair.fact_id for pair in pairs})
    found = []
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        for i, pair in enumerate(part):
            other = part[(i + size // 2) % size]
            agrees = i % 2 == 0
            name = pair.id.replace("/sycophancy/", "/shuffled/")
            found.append(
                Pair(
                    id=name,
                    domain=pair.domain,
                    messages=pair.messages,
                    matching=other.matching if agrees else other.not_matching,
                    not_matching=pair.matching if agrees else pair.not_matching,
                    fact_id=pair.fact_id,
                    kind="shuffled",
                    template=pair.template,
                    claim=pair.claim,
                )
            )
    return found


def _pair(task: str, name: str, subject: str, prompt: str, frame: int, matching: str, not_matching: str) -> Pair:
    return Pair(
        id=f"{name}/{task}/{frame}",
        domain=subject,
        messages=asked(prompt),
        matching=matching,
        not_matching=not_matching,
        fact_id=name,
        kind=task,
        template=f"frame-{frame}",
    )


def _first_sentence(text: str) -> str:
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]
