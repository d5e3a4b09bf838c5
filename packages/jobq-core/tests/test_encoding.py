from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq_core.encoding import (
    MAX_ARGUMENTS,
    MAX_DEPTH,
    _convert,
    check,
    check_text,
    decode,
    encode,
    encode_fields,
    fingerprint,
)
from jobq_core.errors import InvalidJobError
from jobq_core.json_types import make_decoder
from jobq_core.secret import Secret

LIMIT = 1_000_000

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5), max_leaves=15
)


def nested(levels: int, value: Any = 1) -> Any:
    for _ in range(levels):
        value = [value]
    return value


@given(JSON)
def test_what_json_can_say_comes_back_the_same(value: Any) -> None:
    data = encode(value, "value", LIMIT)
    back = decode(data)
    assert back == value
    assert type(back) is type(value)
    assert json.loads(data) == value
    assert decode(data.decode()) == value


@attrs.frozen
class Point:
    x: int


class Colour(StrEnum):
    RED = "red"
    BROKEN = "bro\0ken"


class Odd(dict[str, Any]):
    pass


# What is kept and what is refused, of JSON's own types and of others, at every depth.
ANYTHING = st.recursive(
    SCALARS
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([Point(x=1), *Colour, b"bytes", UUID(int=7), datetime(2026, 1, 1, tzinfo=UTC), Secret("s"), {1}])
    | st.sampled_from([object(), msgspec.Raw(b"1e999"), math.nan, 2**63, "\0", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from([*Colour]), inner, max_size=4)
        | st.builds(Odd, st.dictionaries(TEXT, inner, max_size=2))
        | inner.map(lambda value: nested(62, value))
    ),
    max_leaves=8,
)


def said(encoding: Callable[[], bytes]) -> bytes | str:
    try:
        return encoding()
    except InvalidJobError as error:
        return str(error)


@given(ANYTHING)
def test_the_short_way_to_json_answers_as_the_long_one(value: Any) -> None:
    assert said(lambda: encode(value, "value", LIMIT)) == said(lambda: _convert(value, "value"))


@attrs.frozen(slots=False)
class Fields:
    first: Any
    second: Any = None
    third: Any = attrs.field(default=None, init=False)


@attrs.frozen
class Slotted:
    first: Any


@attrs.frozen(slots=False)
class Aside(Slotted):
    second: Any  # in __dict__, while what it inherits stays in a slot


class Based(Fields):
    pass


@given(ANYTHING, ANYTHING)
def test_so_it_does_for_the_fields_of_a_job(first: Any, second: Any) -> None:
    for value in (Fields(first, second), Based(first, second)):
        assert said(lambda: encode_fields(value, "job", LIMIT)) == said(lambda: _convert(value, "job"))  # noqa: B023
    aside = Aside(first, second)
    fields = {field.name: getattr(aside, field.name) for field in attrs.fields(Aside)}
    assert said(lambda: encode_fields(aside, "job", LIMIT)) == said(lambda: _convert(fields, "job"))


@given(ANYTHING)
def test_what_is_kept_beside_the_fields_of_a_job_is_not_stored(beside: Any) -> None:
    value = Fields(1, 2)
    object.__setattr__(value, "beside", beside)
    assert encode_fields(value, "job", LIMIT) == encode_fields(Fields(1, 2), "job", LIMIT)


@given(st.integers())
def test_integers_beyond_64_bits_are_refused(number: int) -> None:
    if -(2**63) <= number < 2**63:
        assert decode(encode(number, "n", LIMIT)) == number
    else:
        with pytest.raises(InvalidJobError, match="64 bits"):
            encode({"n": number}, "job", LIMIT)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": {"b": [1, math.nan]}}, r"job\.a\.b\[1\] is nan"),
        ({"a": math.inf}, r"job\.a is inf"),
        ({"a": -math.inf}, r"job\.a is -inf"),
        ({"a": ["x\0y"]}, r"job\.a\[0\] holds a NUL"),
        ({"a": {"k\0": 1}}, r"job\.a holds a NUL"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"a": ["ok", "tail \udfff"]}, "lone surrogate"),
        ({"\udc80": 1}, "lone surrogate"),
        ({"a": 2**63}, r"job\.a is 9223372036854775808"),
        ({"a": [-(2**63) - 1]}, r"job\.a\[0\] is -9223372036854775809"),
        ({"a": 2**64}, r"job\.a is 18446744073709551616"),
        ({"a": 10**400}, r"job\.a is 1000"),
        ({"a": nested(MAX_DEPTH)}, "nested more than 64 levels"),
        ({"a": nested(3_000)}, "nested more than 64 levels"),
        ({"a": object()}, "cannot be written as JSON"),
        ({"a": 1j}, "cannot be written as JSON"),
        ({(1, 2): 1}, "cannot be written as JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_storage_cannot_keep_is_refused_by_its_place(value: Any, says: str) -> None:
    with pytest.raises(InvalidJobError, match=says):
        encode(value, "job", LIMIT)


def test_64_levels_are_allowed() -> None:
    assert decode(encode(nested(MAX_DEPTH), "value", LIMIT)) == nested(MAX_DEPTH)


def test_too_many_bytes_are_refused_with_both_numbers() -> None:
    encode("x" * 98, "text", 100)
    with pytest.raises(InvalidJobError, match="text takes 101 bytes as JSON, 100 are allowed"):
        encode("x" * 99, "text", 100)
    with pytest.raises(InvalidJobError, match="102 bytes"):
        encode("é" * 50, "text", 100)


def test_the_limit_of_arguments_is_256_kib() -> None:
    assert MAX_ARGUMENTS == 262_144


@attrs.frozen
class Order:
    number: int
    at: datetime
    key: UUID
    parts: tuple[int, ...]


def test_values_of_attrs_are_written_by_their_fields() -> None:
    order = Order(7, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), UUID(int=5), (1, 2))
    data = encode(order, "order", LIMIT)
    assert decode(data) == {
        "number": 7,
        "at": "2026-01-02T03:04:05.678901Z",
        "key": "00000000-0000-0000-0000-000000000005",
        "parts": [1, 2],
    }
    assert make_decoder(Order).decode(data) == order


def test_keys_that_are_not_text_become_text() -> None:
    assert decode(encode({1: "a", UUID(int=1): "b"}, "value", LIMIT)) == {"1": "a", str(UUID(int=1)): "b"}


def test_a_secret_is_stored_and_comes_back_as_a_secret() -> None:
    @attrs.frozen
    class Login:
        password: Secret[str]
        codes: Secret[list[int]]
        anything: Secret  # type: ignore[type-arg]

    login = Login(Secret("hunter2"), Secret([1, 2]), Secret({"a": 1}))
    data = encode(login, "login", LIMIT)
    assert decode(data) == {"password": "hunter2", "codes": [1, 2], "anything": {"a": 1}}
    assert make_decoder(Login).decode(data) == login


def test_an_object_is_whatever_json_says() -> None:
    assert make_decoder(object).decode(b'{"a":[1,null]}') == {"a": [1, None]}


def test_a_secret_is_checked_as_any_other_value() -> None:
    with pytest.raises(InvalidJobError, match="NUL"):
        encode({"password": Secret("a\0")}, "login", LIMIT)
    with pytest.raises(InvalidJobError, match="64 bits"):
        encode({"password": Secret(2**63)}, "login", LIMIT)


@given(JSON)
def test_check_accepts_what_json_can_say(value: Any) -> None:
    check(value, "value")


@given(TEXT)
def test_text_is_returned_as_it_is(text: str) -> None:
    assert check_text(text, "text") is text


def shuffled(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, draw)) for key, item in value.items()]
        draw.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(item, draw) for item in value]
    return value


@given(st.dictionaries(TEXT, JSON, max_size=4), st.integers(0, 99))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(arguments: dict[str, Any], seed: int) -> None:
    one = fingerprint("kind", encode(arguments, "arguments", LIMIT))
    two = fingerprint("kind", encode(shuffled(arguments, random.Random(seed)), "arguments", LIMIT))
    assert one == two
    assert len(one) == 16


@given(st.dictionaries(TEXT, SCALARS, max_size=4), st.dictionaries(TEXT, SCALARS, max_size=4))
def test_different_arguments_have_different_fingerprints(one: dict[str, Any], two: dict[str, Any]) -> None:
    first, second = encode(one, "one", LIMIT), encode(two, "two", LIMIT)
    # Equal in Python is not the same in JSON: True and 1, 1.0 and 1.
    if json.dumps(one, sort_keys=True) != json.dumps(two, sort_keys=True):
        assert fingerprint("kind", first) != fingerprint("kind", second)


def test_a_fingerprint_is_of_the_kind_too() -> None:
    assert fingerprint("a", b"{}") != fingerprint("b", b"{}")


def test_a_fingerprint_does_not_depend_on_spaces() -> None:
    assert fingerprint("a", b'{ "x" : [1, 2] }') == fingerprint("a", b'{"x":[1,2]}')


def test_an_error_about_a_value_under_long_keys_is_short() -> None:
    value: Any = math.inf
    for letter in "abcdefgh":
        value = {letter * 100_000: value}
    with pytest.raises(InvalidJobError, match="which has no JSON form") as caught:
        encode(value, "job", 10**9)
    assert len(str(caught.value)) < 400
