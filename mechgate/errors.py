"""Every error mechgate raises on purpose: what was wrong, what was got, what is allowed, what to do.

Catch `MechgateError` for all of them. Each kind also inherits the built-in a caller would expect
(`ValueError` for bad values, `OSError` for files), so existing handlers keep working.
"""

import difflib
from collections.abc import Iterable, Sequence


class MechgateError(Exception):
    """Base of all errors raised by mechgate.

    `what` states the problem in one sentence; `got`, `allowed` and `do` are optional and are appended
    in that order. `str(error)` is the one message that the CLI prints.
    """

    def __init__(self, what: str, *, got: object = None, allowed: object = None, do: str | None = None):
        self.what, self.got, self.allowed, self.do = what, got, allowed, do
        parts = [what.rstrip(".") + "."]
        if got is not None:
            parts.append(_ended(f"Got: {got}"))
        if allowed is not None:
            shown = ", ".join(map(str, allowed)) if isinstance(allowed, (list, tuple, set, frozenset)) else allowed
            parts.append(f"Allowed: {shown}.")
        if do is not None:
            parts.append(_ended(f"What to do: {do}"))
        super().__init__(" ".join(parts))


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else sentence + "."


class InputError(MechgateError, ValueError):
    """An argument has a value that cannot be used."""


class DataError(MechgateError, ValueError):
    """A data file or record cannot be used; names file, line and field where there are any."""


class ModelError(MechgateError, ValueError):
    """A model cannot be loaded, or gates would be wrong on it."""


class HookError(MechgateError, LookupError):
    """A hook point does not exist, or a hook that should have fired did not."""


class GateFileError(MechgateError, ValueError):
    """A gate file is damaged, unsafe, of another format, or belongs to another model."""


class TrainingError(MechgateError, RuntimeError):
    """Training cannot start or cannot go on (empty data, NaN loss, foreign checkpoint)."""


class StorageError(MechgateError, OSError):
    """Something could not be downloaded, read or written (network, disk, permissions)."""


def near_misses(name: str, known: Iterable[str], n: int = 3) -> Sequence[str]:
    """The `n` known names closest to `name`, whatever their case, for error messages."""
    by_lower = {known_name.lower(): known_name for known_name in known}
    return [by_lower[found] for found in difflib.get_close_matches(name.lower(), list(by_lower), n=n, cutoff=0.5)]


def check_choice(what: str, got: object, allowed: Sequence[object]) -> None:
    """Raise `InputError` unless `got` is one of `allowed`; `what` names the argument."""
    if got not in allowed:
        close = near_misses(str(got), [str(a) for a in allowed], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"pass one of the allowed values as {what}"
        raise InputError(f"{what} is not one of the known values", got=repr(got), allowed=list(allowed), do=hint)
