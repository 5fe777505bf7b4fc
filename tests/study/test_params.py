"""Typed hyper-parameters: whatever a config may hold is taken as it is meant, or refused in words."""

from __future__ import annotations

import datetime
import json
import math
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmlbench.errors import ConfigError, brief
from mmlbench.params import MethodParams, bounded, check, choice, describe, epoch_of, expected, moment
from mmlbench.storage.hashing import digest


class Many(MethodParams):
    """One field of each sort."""

    ratio: float = bounded(0.5, low=0, high=1, doc="a share")
    free: float = 1.0
    count: int = bounded(3, low=1)
    limit: int = bounded(3, high=10)
    start: float | int = moment(0.25)
    head: str = choice("sum", ("sum", "concat"))
    word: str = "any"
    flag: bool = True
    maybe: float | None = bounded(None, low=0)


FIELDS = describe(Many)
BY_NAME = {field.name: field for field in FIELDS}
#: Categories of characters that no record holds: those that steer a terminal, and halves of characters.
STEERS = ("Cc", "Cs")
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**53, 2**53 + 1, 1e308, -0.0, True])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(["sum", "concat", "1e-4", "1.0"])
DATES = st.dates() | st.just(datetime.datetime(2024, 1, 1))
#: Whatever YAML can hold.
VALUES = st.recursive(
    SCALARS | DATES | st.binary(), lambda v: st.lists(v) | st.dictionaries(SCALARS, v), max_leaves=5
)


def fits(field: dict, value: object) -> bool:
    """Whether a value is what the field takes: written apart from the code under test."""
    if value is None:
        return field.optional
    kind = field.type
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    if kind == "str":
        held = (
            isinstance(value, str)
            and len(value) <= 1000
            and not any(unicodedata.category(c) in STEERS for c in value)
        )
        return held and (not field.options or value in field.options)
    if not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 2**53:
        return False
    if kind == "moment":
        return value >= 0 and (isinstance(value, int) or value <= 1)
    if kind == "int" and value != int(value):
        return False
    return not ((field.low is not None and value < field.low) or (field.high is not None and value > field.high))


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(sorted(BY_NAME)), value=VALUES)
@example(name="free", value=10**400)
@example(name="free", value=float("nan"))
@example(name="count", value=True)
@example(name="count", value=2.0)
@example(name="limit", value=1e300)
@example(name="maybe", value=None)
@example(name="word", value="\x1f")
@example(name="word", value="a" * 1001)
def test_a_value_is_taken_as_meant_or_refused_by_name(name, value):
    field = BY_NAME[name]
    try:
        huge = isinstance(value, int) and abs(value) > 2**53
        taken = not huge and fits(field, value)
        found = check(FIELDS, {name: value}, "method many")
    except ConfigError as error:
        assert not taken
        assert error.exit_code == 2 and str(error).count("\n") == 0
        assert error.what.startswith(f"method many: {name} = ") and expected(field) in error.fix
        return
    assert taken
    assert set(found) == set(BY_NAME), "every field is there, defaults filled in"
    if value is not None and field.type != "moment":
        assert type(found[name]) is {"int": int, "float": float, "bool": bool, "str": str}[field.type]
    assert found[name] == value
    assert check(FIELDS, found, "again") == found, "taking it twice changes nothing"
    assert json.loads(json.dumps(found)) == found
    Many(**found)


@given(name=st.text(min_size=1).filter(lambda text: text not in BY_NAME))
@settings(max_examples=50, deadline=None)
def test_an_unknown_field_is_refused_by_name(name):
    with pytest.raises(ConfigError, match="unknown parameter") as caught:
        check(FIELDS, {name: 1}, "method many")
    assert brief(name) in caught.value.what


@given(st.floats(0, 1) | st.integers(0, 1000), st.integers(1, 500))
@settings(max_examples=100, deadline=None)
def test_a_moment_is_an_epoch(value, epochs):
    found = epoch_of(value, epochs)
    assert isinstance(found, int)
    assert found == value if isinstance(value, int) else 0 <= found <= epochs


def test_equal_values_have_equal_hashes():
    same = [{"free": 0.0}, {"free": -0.0}, {"free": 0}]
    assert len({digest(check(FIELDS, values, "x")) for values in same}) == 1
    assert digest(check(FIELDS, {"start": 1}, "x")) != digest(check(FIELDS, {"start": 1.0}, "x")), (
        "epoch 1, and the end"
    )


def test_the_defaults_need_no_values():
    assert check(FIELDS, {}, "x") == {field.name: field.default for field in FIELDS}
    assert Many(**check(FIELDS, {}, "x")) == Many()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ratio", "a float from 0 to 1"),
        ("free", "a float"),
        ("count", "an int, at least 1"),
        ("limit", "an int, at most 10"),
        ("head", "one of sum, concat"),
        ("flag", "a bool"),
        ("maybe", "a float, at least 0 or null"),
    ],
)
def test_what_a_field_takes_is_said_in_words(name, words):
    assert expected(BY_NAME[name]) == words


def test_a_near_miss_gets_the_right_name():
    with pytest.raises(ConfigError, match=r"Did you mean ratio\?"):
        check(FIELDS, {"ration": 1}, "method many")
    with pytest.raises(ConfigError, match="It takes none"):
        check([], {"ratio": 1}, "method plain")


def test_a_number_that_yaml_reads_as_text_is_explained():
    with pytest.raises(ConfigError, match=r"as a number it is 0\.0001: write it without quotes"):
        check(FIELDS, {"ratio": "1e-4"}, "x")


def make(annotation: object, default: object) -> type:
    """Return a Params class with one field."""
    return type("P", (MethodParams,), {"__annotations__": {"x": annotation}, "x": default, "__module__": __name__})


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        (float, bounded(2.0, high=1), "its default 2.0 is not a float, at most 1"),
        (int, bounded(0.5), "its default 0.5 is not an int"),
        (str, choice("c", ("a", "b")), "its default 'c' is not one of a, b"),
        (int, choice("a", ("a", "b")), "a choice is a str"),
        (float, None, "its default None is not a float"),
        (dict, 1, "it is an int, float, bool or str"),
        (int | str, 1, "it is an int, float, bool or str"),
        (float | int, moment(1.5), "its default 1.5 is not a fraction"),
        (bool, 1, "its default 1 is not a bool"),
    ],
)
def test_a_wrong_field_is_the_fault_of_its_class(annotation, default, message):
    with pytest.raises(TypeError) as caught:
        describe(make(annotation, default))
    assert str(caught.value).startswith("P.x: ") and message in str(caught.value)


def test_a_field_without_a_default_is_refused():
    class Bare(MethodParams):
        x: int

    with pytest.raises(TypeError, match="has no default"):
        describe(Bare)


def test_parameters_are_frozen_and_inherited():
    class More(Many):
        extra: int = 1

    assert [field.name for field in describe(More)] == [*BY_NAME, "extra"]
    with pytest.raises(AttributeError):
        More().extra = 2  # type: ignore[misc]


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "a" * 1001, "\ud800"])
def test_a_text_that_no_record_may_hold_is_refused_before_training(text: str) -> None:
    class Named(MethodParams):
        """A parameter that takes any text."""

        text: str = "a"

    with pytest.raises(ConfigError, match="at most 1000 letters on one line"):
        check(describe(Named), {"text": text}, "method named")
    assert check(describe(Named), {"text": "a" * 1000}, "method named") == {"text": "a" * 1000}
