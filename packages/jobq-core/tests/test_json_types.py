"""Each row of the documentation's table of types holds, alone and within containers."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, Optional, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from jobq_core import json_types
from jobq_core.declaring import job
from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.job import JobDefinition
from jobq_core.json_types import register_type
from jobq_core.secret import Secret

PAGE = Path(__file__).parents[3] / "docs/reference/types.md"


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int


@attrs.frozen
class Line:
    article: str
    price: Decimal


class Person(TypedDict):
    name: str


class Pair(NamedTuple):
    number: int
    text: str


class Tagged(msgspec.Struct, tag=True):
    n: int


class Customer(pydantic.BaseModel):
    name: str
    born: date | None = None

    @pydantic.model_serializer(mode="wrap")
    def without_none(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


TYPES: dict[str, Any] = {
    "dataclass": Point,
    "attrs class": Line,
    "`TypedDict`": Person,
    "`NamedTuple`": Pair,
    "`msgspec.Struct`": Tagged,
    "pydantic `BaseModel`": Customer,
    "`Enum`": Colour,
}
NAMES = (
    {
        one.__name__: one
        for one in (
            Colour,
            Point,
            Line,
            Pair,
            Tagged,
            Customer,
            Counter,
            OrderedDict,
            deque,
            date,
            datetime,
            time,
            timedelta,
        )
    }
    | {one.__name__: one for one in (Decimal, IPv4Address, IPv4Interface, IPv6Network, Path, UUID, ZoneInfo, Secret)}
    | {"Any": Any, "Literal": Literal, "UTC": UTC}
)


def rows() -> list[tuple[str, str, str]]:
    """Return type, value and JSON of each row."""
    table = PAGE.read_text().partition("|---|")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in re.split(r" \|(?: |$)(?!None`)", line[2:])] for line in table.splitlines()[1:]]
    return [(kind, value.strip("`"), data.strip("`")) for kind, value, data, *_ in cells]


ROWS = rows()


def declared(wanted: Any) -> JobDefinition:
    """Declare a job that takes and returns this type."""

    def work(value: Any) -> Any: ...

    work.__annotations__ |= {"value": wanted, "return": wanted}
    return job(work).definition


def test_the_table_has_rows() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize(("kind", "value", "data"), ROWS, ids=[kind for kind, *_ in ROWS])
def test_a_row_of_the_table_holds(kind: str, value: str, data: str) -> None:
    wanted = TYPES[kind] if kind in TYPES else eval(kind.strip("`"), NAMES)
    given = eval(value, NAMES)
    for type_, one, json in (
        (wanted, given, data),
        (list[wanted], [given, given], f"[{data},{data}]"),  # type: ignore[valid-type]
        (dict[str, tuple[wanted, ...]], {"a": (given,)}, f'{{"a":[{data}]}}'),  # type: ignore[valid-type]
        (deque[wanted], deque([given]), f"[{data}]"),  # type: ignore[valid-type]
        (Optional[wanted], given, data),  # noqa: UP045  (None | None is an error)
    ):
        definition = declared(type_)
        assert definition.encode_arguments(definition.job_type(value=one)).decode() == f'{{"value":{json}}}'
        assert definition.encode_result(one).decode() == json
        back = definition.decode_result(json)
        assert back == one
        assert type(back) is type(one)
        assert definition.decode_arguments(f'{{"value":{json}}}') == definition.job_type(value=one)


@pytest.mark.parametrize(
    "value",
    [
        PurePosixPath("/tmp"),
        IPv6Address("::1"),
        IPv4Network("10.0.0.0/8"),
        IPv6Interface("::1/64"),
        IPv4Address("10.0.0.1"),
        IPv4Interface("10.0.0.1/8"),
        IPv6Network("::/0"),
        frozenset({1}),
    ],
    ids=repr,
)
def test_relatives_of_a_row_hold(value: Any) -> None:
    definition = declared(type(value))
    assert definition.decode_result(definition.encode_result(value)) == value


@pytest.mark.parametrize(
    ("wanted", "data"),
    [
        (Path, b"7"),
        (IPv4Address, b"7"),
        (IPv4Address, b'"10.0.0"'),
        (ZoneInfo, b'"Nowhere/Land"'),
        (deque[int], b'["x"]'),
        (OrderedDict[str, int], b'{"a":"x"}'),
        (Customer, b'{"name":7}'),
    ],
    ids=str,
)
def test_json_that_does_not_fit_is_refused(wanted: Any, data: bytes) -> None:
    with pytest.raises(InvalidJobError, match="does not fit its declared type"):
        declared(wanted).decode_result(data)


def test_values_of_these_types_within_any_are_stored_by_their_form() -> None:
    value = {"path": Path("a"), "at": [IPv4Address("10.0.0.1")], "line": deque([1]), "who": Customer(name="Ada")}
    data = declared(Any).encode_result(value)
    assert msgspec.json.decode(data) == {"path": "a", "at": ["10.0.0.1"], "line": [1], "who": {"name": "Ada"}}


def test_types_of_the_table_may_be_keys() -> None:
    definition = declared(dict[Path, dict[IPv4Address, int]])
    value = {Path("a"): {IPv4Address("10.0.0.1"): 1}}
    assert definition.decode_result(definition.encode_result(value)) == value


@pytest.mark.parametrize("zone", ["Europe/Vienna", "America/New_York", "Asia/Kolkata"])
def test_a_datetime_keeps_its_instant_and_offset_and_not_its_zone(zone: str) -> None:
    moment = datetime(2026, 7, 1, 9, 30, tzinfo=ZoneInfo(zone))
    definition = declared(datetime)
    back = definition.decode_result(definition.encode_result(moment))
    assert (back, back.utcoffset()) == (moment, moment.utcoffset())
    assert not isinstance(back.tzinfo, ZoneInfo)


def test_a_model_that_would_not_come_back_as_it_was_is_refused() -> None:
    class Login(pydantic.BaseModel):
        password: pydantic.SecretStr

    with pytest.raises(InvalidJobError, match="Login: it does not come back from its JSON as it was"):
        declared(Any).encode_result(Login(password=pydantic.SecretStr("hunter2")))


def test_a_secret_within_a_model_or_deque_is_not_shown() -> None:
    definition = declared(deque[Secret[int]])
    value = deque([Secret(5)])
    assert definition.decode_result(definition.encode_result(value)) == value
    with pytest.raises(InvalidJobError) as caught:
        definition.encode_result(deque([Secret("hunter2")]))
    assert "hunter2" not in str(caught.value)


# Registered types


class Money:
    def __init__(self, cents: int) -> None:
        if type(cents) is not int:
            raise TypeError("cents must be a whole number")
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents

    def __hash__(self) -> int:
        return hash(self.cents)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_types, "_registered", {})
    register_type(Money, encode=lambda money: money.cents, decode=Money)


@pytest.mark.usefixtures("registered")
def test_a_registered_type_is_stored_alone_and_within_containers() -> None:
    @dataclasses.dataclass
    class Bill:
        total: Money
        parts: deque[Money]

    Bill.__annotations__ |= {"total": Money, "parts": deque[Money]}
    for wanted, value, data in (
        (Money, Money(5), b"5"),
        (Money | None, None, b"null"),
        (dict[str, list[Money]], {"a": [Money(5)]}, b'{"a":[5]}'),
        (Bill, Bill(Money(5), deque([Money(2), Money(3)])), b'{"total":5,"parts":[2,3]}'),
        (Secret[Money], Secret(Money(5)), b"5"),
    ):
        definition = declared(wanted)
        assert definition.encode_result(value) == data
        assert definition.decode_result(data) == value


@pytest.mark.usefixtures("registered")
def test_json_that_a_registered_type_does_not_take_is_refused_by_its_place() -> None:
    with pytest.raises(InvalidJobError, match=r"cents must be a whole number - at `\$\[1\]`"):
        declared(list[Money]).decode_result(b'[1,"x"]')


@pytest.mark.usefixtures("registered")
def test_a_registered_type_that_cannot_be_encoded_is_refused_by_name() -> None:
    broken = Money(5)
    del broken.cents
    with pytest.raises(InvalidJobError, match=r"result of work cannot be written as JSON: Money: .*cents"):
        declared(Money).encode_result(broken)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((Money, str, Money), "Money is already registered"),
        ((Point, str, Point), "jobq stores Point without register_type"),
        ((int, str, int), "jobq stores int without register_type"),
        ((Secret, str, Secret), "jobq stores Secret without register_type"),
        (("Money", str, Money), "takes a class and two functions"),
        ((complex, None, complex), "takes a class and two functions"),
    ],
    ids=repr,
)
def test_a_type_that_cannot_be_registered_is_refused(arguments: tuple[Any, Any, Any], says: str) -> None:
    cls, encode, decode = arguments
    with pytest.raises(ConfigurationError, match=says):
        register_type(cls, encode=encode, decode=decode)
