"""Laws of errors: one message with what, got, allowed and what to do; kinds that existing handlers catch."""

import pickle
from typing import Any

import pytest

from mechgate import errors
from mechgate.errors import InputError, MechgateError, check_choice, near_misses

KINDS = {
    errors.InputError: ValueError,
    errors.DataError: ValueError,
    errors.ModelError: ValueError,
    errors.HookError: LookupError,
    errors.GateFileError: ValueError,
    errors.TrainingError: RuntimeError,
    errors.StorageError: OSError,
}


def test_every_kind_of_error_is_listed_here() -> None:
    kinds = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, MechgateError)}
    assert kinds == {MechgateError, *KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_caught_as_mechgates_and_as_the_built_in_one(kind: type[MechgateError]) -> None:
    for caught in (MechgateError, KINDS[kind]):
        with pytest.raises(caught) as info:
            raise kind("it broke", got=3)
        assert str(info.value) == "it broke. Got: 3."


@pytest.mark.parametrize("kind", [MechgateError, *KINDS])
def test_the_message_says_what_got_allowed_and_what_to_do_in_that_order(kind: type[MechgateError]) -> None:
    error = kind("x is wrong", got=3, allowed=[1, 2], do="pass 1")
    assert str(error) == "x is wrong. Got: 3. Allowed: 1, 2. What to do: pass 1."
    assert (error.what, error.got, error.allowed, error.do) == ("x is wrong", 3, [1, 2], "pass 1")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "x is wrong."),
        ({"got": 0}, "x is wrong. Got: 0."),
        ({"got": ""}, "x is wrong. Got: ."),
        ({"got": False, "do": "stop."}, "x is wrong. Got: False. What to do: stop."),
        ({"allowed": "0 to 3"}, "x is wrong. Allowed: 0 to 3."),
        ({"allowed": ("a", "b")}, "x is wrong. Allowed: a, b."),
        ({"allowed": 7}, "x is wrong. Allowed: 7."),
    ],
    ids=str,
)
def test_parts_that_are_not_given_are_left_out(more: dict[str, Any], message: str) -> None:
    assert str(InputError("x is wrong", **more)) == str(InputError("x is wrong.", **more)) == message


@pytest.mark.parametrize("kind", [MechgateError, *KINDS])
def test_errors_survive_the_way_to_another_process(kind: type[MechgateError]) -> None:
    error = kind("x is wrong", got=3, allowed=(1, 2), do="pass 1")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert (copy.got, copy.allowed, copy.do) == (3, (1, 2), "pass 1")


def test_near_misses_come_closest_first_and_whatever_their_case() -> None:
    known = ["sycophancy", "genuine-agreement", "Medical", "medicine"]
    assert near_misses("MEDICAL", known)[0] == "Medical"
    assert near_misses("sycophany", known) == ["sycophancy"]
    assert near_misses("zzzzzz", known) == []
    assert list(near_misses("medica", known, n=1)) == ["Medical"]
    assert near_misses("x", []) == []


def test_a_known_choice_passes() -> None:
    assert check_choice("task", "b", ("a", "b")) is None


def test_an_unknown_choice_names_itself_the_choices_and_a_near_miss() -> None:
    with pytest.raises(InputError) as info:
        check_choice("domain", "medcal", ("medical", "finance"))
    message = str(info.value)
    assert message.startswith("domain is not one of the known values. Got: 'medcal'. Allowed: medical, finance.")
    assert message.endswith("did you mean 'medical'?")


@pytest.mark.parametrize("got", [3, "", ["a"], "zzzzzz"], ids=repr)
def test_an_unknown_choice_that_resembles_none_says_which_argument_to_set(got: Any) -> None:
    with pytest.raises(InputError, match="pass one of the allowed values as domain"):
        check_choice("domain", got, ("medical", "finance"))
