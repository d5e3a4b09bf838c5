"""Declarations of one kind: which take the same arguments, and what a declaration does with names it has not."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import attrs
import msgspec
import pytest

from jobq_core.declaring import job
from jobq_core.errors import ConfigurationError, UnfitArgumentsError
from jobq_core.job import Job, JobDefinition
from jobq_core.secret import Secret


def declared(types: dict[str, Any], defaults: tuple[Any, ...] = (), **options: Any) -> JobDefinition:
    """Declare a job with arguments of these types, the last of which have these defaults."""
    names = ", ".join(types)
    made: dict[str, Any] = {}
    exec(f"def work({names}): ...", made)
    work: Any = made["work"]
    work.__annotations__, work.__defaults__ = types, defaults
    definition: JobDefinition = job(name="work", **options)(work).definition
    return definition


@dataclasses.dataclass
class Money:
    cents: int
    currency: str = "EUR"


@attrs.frozen
class Account:
    number: int
    money: Money | None = None


class Point(TypedDict):
    x: int


class Tag(msgspec.Struct, tag=True):
    word: str


class Other(msgspec.Struct, tag=True):
    number: int


class Pair(NamedTuple):
    one: Point
    two: int


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


# What makes a difference


def test_equal_declarations_have_the_same_text_whatever_else_their_jobs_declare() -> None:
    one = declared({"a": int, "b": Money}, (Money(1),))
    two = declared({"b": Money, "a": int}, queue="else", max_attempts=3, priority=5, timeout=9)
    assert one.declaration == declared({"a": int, "b": Money}, (Money(2),)).declaration
    assert len(one.declaration) == 24
    assert declared({"a": int, "b": Money}, queue="else", fingerprint=True).declaration == two.declaration


def test_the_text_is_the_same_in_each_process() -> None:
    assert declared({"n": int, "who": str | None}).declaration == "6a41b8731c3784d66d2d46ff"


@pytest.mark.parametrize(
    "wanted",
    [str, float, int | None, list[int], dict[str, int], Annotated[int, msgspec.Meta(ge=1)], Money, Account, Point,
     Tag, Tag | Other, Literal[1, 2], Literal[1], Color, Node, tuple[int, int], tuple[int, ...], Any, Secret[int]],
    ids=str,
)  # fmt: skip
def test_another_type_is_another_declaration(wanted: Any) -> None:
    assert declared({"n": wanted}).declaration != declared({"n": int}).declaration
    assert declared({"n": wanted}).declaration == declared({"n": wanted}).declaration


def test_names_needs_versions_and_tolerance_make_a_difference() -> None:
    texts = [
        declared({"n": int}).declaration,
        declared({"n": int}, (5,)).declaration,
        declared({"m": int}).declaration,
        declared({"n": int, "m": int}).declaration,
        declared({"n": int}, version="2").declaration,
        declared({"n": int}, unknown_arguments="ignore").declaration,
        declared({}).declaration,
    ]
    assert len(set(texts)) == len(texts)


def test_a_field_within_an_argument_makes_a_difference() -> None:
    def with_fields(*names: str) -> JobDefinition:
        return declared({"value": list[msgspec.defstruct("Value", [(name, int) for name in names])]})  # type: ignore[misc]

    assert with_fields("a").declaration == with_fields("a").declaration != with_fields("a", "b").declaration


# Names that the declaration has not


@pytest.mark.parametrize(
    ("wanted", "json", "path"),
    [
        (Money, b'{"cents":1,"vat":2}', "vat"),
        (Account, b'{"number":1,"money":{"cents":1,"vat":2}}', "money.vat"),
        (Point, b'{"x":1,"y":2}', "y"),
        (list[Point], b'[{"x":1},{"x":1,"y":2}]', "y"),
        (dict[str, Money], b'{"k":{"cents":1,"vat":2}}', "k.vat"),
        (tuple[int, Point], b'[1,{"x":1,"y":2}]', "y"),
        (Pair, b'[{"x":1,"y":2},3]', "y"),
        (Point | None, b'{"x":1,"y":2}', "y"),
        (Tag, b'{"type":"Tag","word":"w","more":1}', "more"),
        (Node, b'{"value":1,"children":[{"value":2,"children":[{"value":3,"name":4}]}]}', "children.children.name"),
    ],
    ids=str,
)
def test_a_name_within_an_argument_is_refused_by_its_path(wanted: Any, json: bytes, path: str) -> None:
    with pytest.raises(UnfitArgumentsError, match=rf"work: .* unknown field `value\.{path}`"):
        declared({"value": wanted}).decode_arguments(b'{"value":%s}' % json)
    tolerant = declared({"value": wanted}, unknown_arguments="ignore")
    assert tolerant.decode_arguments(b'{"value":%s}' % json) is not None


@pytest.mark.parametrize(
    ("wanted", "json"),
    [
        (Money, b'{"cents":1}'),
        (Account, b'{"number":1,"money":null}'),
        (Tag | Other, b'{"type":"Other","number":1}'),
        (dict[str, Any], b'{"any":{"thing":1}}'),
        (dict[str, Money], b"{}"),
        (Any, b'{"x":1}'),
        (Node, b'{"value":1,"children":[]}'),
        (list[Money] | None, b"null"),
    ],
    ids=str,
)
def test_what_the_declaration_has_is_taken(wanted: Any, json: bytes) -> None:
    assert declared({"value": wanted}).decode_arguments(b'{"value":%s}' % json) is not None


def test_an_unknown_argument_is_refused_by_name() -> None:
    definition = declared({"amount": int, "account": int}, (1,))
    with pytest.raises(UnfitArgumentsError, match=r"work: the arguments do not fit: .*`currency`"):
        definition.decode_arguments(b'{"amount":5,"currency":"USD"}')
    with pytest.raises(UnfitArgumentsError, match="`amount`"):
        definition.decode_arguments(b'{"account":5}')
    assert vars(definition.decode_arguments(b'{"amount":5}')) == {"amount": 5, "account": 1}
    tolerant = declared({"amount": int}, unknown_arguments="ignore")
    assert vars(tolerant.decode_arguments(b'{"amount":5,"currency":"USD"}')) == {"amount": 5}


@pytest.mark.parametrize("options", [{"unknown_arguments": "drop"}, {"version": 2}, {"version": ""}, {"result": 1}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        declared({"n": int}, **options)


# Results that are not kept


def test_a_kind_may_keep_no_result() -> None:
    def work() -> int: ...  # type: ignore[empty-body]

    declare: Callable[..., Any] = job(name="work", result=False)
    definition: JobDefinition = declare(work).definition
    assert definition.encode_result(object()) == b"null"
    assert definition.decode_result(b"null") is None


class Doubling:
    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.number  # type: ignore[attr-defined, no-any-return]


@attrs.frozen
class Slotted:
    number: int

    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.number


@attrs.frozen(slots=False)
class Unslotted(Doubling):
    number: int


@dataclasses.dataclass
class Plain(Doubling):
    number: int


@pytest.mark.parametrize("kind", [Slotted, Unslotted, Plain])
def test_a_value_whose_cached_property_was_computed_is_taken_as_any_other(kind: Any) -> None:
    definition = declared({"value": kind})
    value = kind(3)
    assert value.twice == 6
    data = definition.encode_arguments(definition.job_type(value))
    assert definition.decode_arguments(data).value == kind(3)  # type: ignore[attr-defined]


def test_a_job_whose_cached_property_was_computed_is_stored_without_it() -> None:
    @job
    class Work(Doubling, Job[int]):
        number: int

        def execute(self) -> int:
            return self.twice

    work = Work(3)
    assert work.execute() == 6
    assert Work.definition.encode_arguments(work) == b'{"number":3}'
