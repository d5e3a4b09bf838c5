"""What `@job` takes and refuses: each refusal names the argument and the remedy, before anything is stored."""

from __future__ import annotations

import collections
import dataclasses
import functools
import sys
import textwrap
import types
import typing
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import msgspec
import pytest

from jobq_core.context import JobContext
from jobq_core.declaring import job
from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.job import Job, JobFunction, definition_of
from jobq_core.registry import Registry
from jobq_core.secret import Secret
from jobq_core.signatures import UntypedArgumentWarning

if TYPE_CHECKING:
    from datetime import timedelta


async def double(number: int, factor: int = 2) -> int:
    """Multiply a number."""
    return number * factor


def passed_on(func: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as decorators for metrics do: the wrapper is not a coroutine function itself."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


async def run(declared: JobFunction[..., Any, Any], *args: Any, **kwargs: Any) -> Any:
    """Run a job as a worker does, from its stored arguments to its stored result."""
    definition = declared.definition
    value = definition.decode_arguments(definition.encode_arguments(declared(*args, **kwargs)))
    assert definition.handler is not None
    assert definition.is_async
    return definition.decode_result(definition.encode_result(await definition.handler(value)))


# Without parentheses


def test_job_declares_a_function_without_parentheses() -> None:
    @job
    def resize(path: str) -> str:
        return path

    assert isinstance(resize, JobFunction)
    assert (resize.definition.kind, resize.definition.result_type) == ("resize", str)
    assert resize("a.png") == resize(path="a.png")


def test_job_declares_a_class_without_parentheses() -> None:
    @job
    class Resize(Job[str]):
        path: str

    assert definition_of(Resize).kind == "Resize"
    assert Resize("a.png").path == "a.png"


# Functions behind other functions


async def test_a_wrapped_coroutine_function_runs_as_one() -> None:
    assert await run(job(passed_on(double)), 7) == 14


async def test_a_partial_of_a_coroutine_function_runs_as_one() -> None:
    assert await run(job(name="triple")(functools.partial(double, factor=3)), 7) == 21


async def test_an_object_with_an_async_call_runs_as_a_coroutine_function() -> None:
    class Doubler:
        async def __call__(self, number: int) -> int:
            return number * 2

    assert await run(job(name="doubler")(Doubler()), 7) == 14


async def test_a_wrapper_that_awaits_by_itself_is_taken_at_its_word() -> None:
    @functools.wraps(double)
    def at_once(number: int, factor: int = 2) -> int:
        return number * factor

    assert await run(job(name="at_once")(at_once), 7) == 14
    in_thread = job(name="in_thread", executor="thread")(at_once).definition
    assert not in_thread.is_async
    assert in_thread.handler is not None
    assert in_thread.handler(in_thread.decode_arguments(b'{"number":7}')) == 14


def test_a_partial_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match=r"no name of its own: give it one, as in @job\(name='resize'\)"):
        job(functools.partial(double, factor=3))


@pytest.mark.parametrize(
    "target", [7, "double", job(double), classmethod(lambda cls: None)], ids=lambda v: type(v).__name__
)
def test_what_cannot_be_declared_is_refused(target: Any) -> None:
    with pytest.raises(ConfigurationError, match="@job declares a function or a subclass of Job, not"):
        job(target)


def test_a_lambda_is_refused() -> None:
    for declare in (job, job(name="double")):
        with pytest.raises(ConfigurationError, match=r"a lambda cannot be a job.*define a function with def"):
            declare(lambda: None)


def test_a_singledispatch_function_is_refused() -> None:
    @functools.singledispatch
    def resize(number: int) -> int:
        return number

    with pytest.raises(ConfigurationError, match=r"job resize: a singledispatch function cannot be a job.*by name"):
        job(resize)


def test_generators_are_refused() -> None:
    def lines() -> Iterator[str]:
        yield ""

    async def rows() -> AsyncIterator[str]:
        yield ""

    for func in (lines, rows, functools.partial(lines)):
        with pytest.raises(ConfigurationError, match=r"job rows: a generator cannot be a job.*return a list"):
            job(name="rows")(func)
    with pytest.raises(ConfigurationError, match="a generator cannot be a job"):

        @job
        class Lines(Job[list[str]]):
            def execute(self) -> Iterator[str]:
                yield ""


# The context


def test_a_context_anywhere_but_first_is_refused_by_name() -> None:
    def last(number: int, ctx: JobContext) -> None: ...
    def by_name(*, ctx: JobContext) -> None: ...
    def optional(ctx: JobContext | None, number: int) -> None: ...
    def untyped(context, number: int) -> None: ...  # type: ignore[no-untyped-def]

    for func, name in ((last, "ctx"), (by_name, "ctx"), (optional, "ctx"), (untyped, "context")):
        with pytest.raises(ConfigurationError, match=f"argument '{name}': the context is the first parameter"):
            job(func)


def test_a_context_may_be_annotated_further() -> None:
    @job
    def work(ctx: Annotated[JobContext, "injected"], number: int) -> None: ...

    assert work.definition.wants_context
    assert work.definition.encode_arguments(work.definition.job_type(number=1)) == b'{"number":1}'


def test_only_a_context_is_passed_to_execute() -> None:
    with pytest.raises(ConfigurationError, match="execute takes self and a JobContext; make 'verbose' a field"):

        @job
        class Loud(Job[None]):
            def execute(self, verbose: bool = False) -> None: ...

    with pytest.raises(ConfigurationError, match="make 'number' a field"):

        @job
        class Two(Job[None]):
            def execute(self, context: JobContext, number: int) -> None: ...


# Types


class Cursor:
    """Of no JSON form."""


@dataclasses.dataclass
class Query:
    text: str
    cursor: Cursor | None = None


@attrs.frozen
class Account:
    number: int
    _owner: str = "nobody"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Cursor, "Cursor has no JSON form; pass an id.*register_type"),
        (list[Cursor], "Cursor has no JSON form"),
        (dict[str, list[Cursor | None]], "Cursor has no JSON form"),
        (Query, "Query.cursor: Cursor has no JSON form"),
        (list[Query], "Query.cursor: Cursor has no JSON form"),
        (Iterable[int], "Iterable has no JSON form; declare a list"),
        (Callable[[], int], "Callable has no JSON form"),
        (Decimal | datetime, "JSON cannot tell its members apart; declare one of them"),
        (Account, "the field '_owner' of Account is not stored; .*rename it"),
        (list[Account], "the field '_owner' of Account"),
        (dict[tuple[int, int], str], "keys of a dict are text or numbers"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_stored_is_refused_by_argument(wanted: Any, says: str) -> None:
    def takes(number: int, thing: Any) -> None: ...
    def returns(number: int) -> Any: ...

    takes.__annotations__["thing"] = wanted
    returns.__annotations__["return"] = wanted
    with pytest.raises(ConfigurationError, match=f"job takes: argument 'thing': .*{says}"):
        job(takes)
    with pytest.raises(ConfigurationError, match=f"job returns: its result: .*{says}"):
        job(returns)
    with pytest.raises(ConfigurationError, match="job Takes: argument 'thing'"):
        job(types.new_class("Takes", (Job[None],), {}, lambda body: body.update(__annotations__={"thing": wanted})))


def test_names_with_an_underscore_are_refused() -> None:
    def notify(user: int, _dry_run: bool = False) -> None: ...

    with pytest.raises(ConfigurationError, match=r"job notify: argument '_dry_run' is not stored; .*rename it"):
        job(notify)
    with pytest.raises(ConfigurationError, match="job Export: argument '_limit' is not stored"):

        @job
        class Export(Job[None]):
            _limit: int = 10


def test_a_private_field_that_is_not_an_argument_is_left_out() -> None:
    @attrs.define
    class Cached:
        number: int
        _cache: dict[str, int] = attrs.field(factory=dict, init=False)

    @job
    def work() -> None: ...

    def takes(thing: Any) -> None: ...

    takes.__annotations__["thing"] = Cached
    declared = job(takes)
    value = declared(Cached(1))
    assert declared.definition.decode_arguments(declared.definition.encode_arguments(value)) == value


def test_a_dataclass_keeps_fields_with_an_underscore() -> None:
    @dataclasses.dataclass
    class Money:
        cents: int
        _currency: str = "EUR"

    @job
    def pay(thing: Any) -> Any: ...

    definition = pay.definition
    assert definition.encode_arguments(pay(Money(5, "USD"))) == b'{"thing":{"cents":5,"_currency":"USD"}}'


def test_a_private_field_in_an_untyped_value_is_refused() -> None:
    @job
    def work(thing: Any) -> Any: ...

    for thing in (Account(1, "Ada"), [Account(1)], {"a": (Account(1),)}, Query("x", Account(1))):  # type: ignore[arg-type]
        with pytest.raises(InvalidJobError, match="work: the field '_owner' of Account is not stored"):
            work.definition.encode_arguments(work(thing))
        with pytest.raises(InvalidJobError, match="result of work: the field '_owner' of Account is not stored"):
            work.definition.encode_result(thing)


@pytest.mark.parametrize(
    "holder",
    [
        lambda one: Holder(one),
        lambda one: (1, Pair(one, 2)),
        lambda one: [collections.deque([one])],
        lambda one: collections.OrderedDict(key=one),
        lambda one: {"key": Secret(one)},
        lambda one: Secret([one]),
    ],
)
def test_a_private_field_is_refused_whatever_holds_it(holder: Callable[[Any], Any]) -> None:
    @attrs.frozen
    class Account:
        number: int
        _owner: str = "nobody"

    @job(result=True)
    def work(value: Any) -> Any: ...

    for encode in (lambda value: work.definition.encode_arguments(work(value)), work.definition.encode_result):
        with pytest.raises(InvalidJobError, match=r"the field '_owner' of .*Account is not stored; .*rename it"):
            encode(holder(Account(1, "Ada")))


class Holder(msgspec.Struct):
    value: Any
    _word: str = "kept"


class Words(typing.TypedDict):
    _word: str


class Pair(typing.NamedTuple):
    one: Any
    two: int


def test_structs_and_typed_dicts_keep_fields_with_an_underscore() -> None:
    @job
    def work(one: Holder, two: Words) -> None: ...

    value = work(Holder(1, "two"), {"_word": "three"})
    assert work.definition.decode_arguments(work.definition.encode_arguments(value)) == value


def test_a_default_that_does_not_fit_its_type_is_refused() -> None:
    def nothing(text: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013
    def sentinel(text: str = object()) -> None: ...  # type: ignore[assignment]

    for func in (nothing, sentinel):
        with pytest.raises(ConfigurationError, match="the default of 'text' does not fit its type: "):
            job(func)
    with pytest.raises(ConfigurationError, match="the default of 'items' is mutable; use None"):

        @job
        class Work(Job[None]):
            items: list[int] = []  # noqa: RUF012


# Types that are defined later


def module(source: str) -> types.ModuleType:
    """Make a module of this source."""
    made = types.ModuleType("late_types")
    sys.modules["late_types"] = made
    try:
        exec(textwrap.dedent(source), vars(made))
    except BaseException:
        del sys.modules["late_types"]
        raise
    return made


LATE = """
    from __future__ import annotations
    import attrs
    from jobq_core import Job, JobContext, job

    @job
    def function(context: JobContext, thing: Later, number: int = 0) -> list[Later]: ...

    @job
    class Class(Job["Later"]):
        thing: Later

    {later}
"""


def test_a_type_that_the_module_defines_further_down_is_used() -> None:
    made = module(LATE.format(later="Later = attrs.make_class('Later', {'n': attrs.field(type=int)})"))
    for declared in (made.function, made.Class):
        definition = declared.definition
        value = declared(made.Later(1))
        assert definition.decode_arguments(definition.encode_arguments(value)) == value
        with pytest.raises(InvalidJobError, match=r"\$\.thing"):
            definition.encode_arguments(declared(5))
    assert made.function.definition.wants_context
    assert made.function.definition.decode_result(b'[{"n":1}]') == [made.Later(1)]
    assert made.Class.definition.decode_result(b'{"n":1}') == made.Later(1)
    assert len(Registry(made)) == 2


@pytest.mark.parametrize(
    ("later", "says"),
    [
        ("", "the type of argument 'thing' cannot be resolved: name 'Later' is not defined"),
        ("Later = type('Later', (), {})", "argument 'thing': Later has no JSON form"),
    ],
    ids=["undefined", "unstorable"],
)
def test_a_late_type_that_cannot_be_stored_is_refused_on_first_use(later: str, says: str) -> None:
    made = module(LATE.format(later=later))
    for declared in (made.function, made.Class):
        with pytest.raises(ConfigurationError, match=says):
            Registry([declared])
        with pytest.raises(ConfigurationError, match=says):
            declared.definition.encode_arguments(declared(1))


def test_a_context_that_is_imported_for_type_checkers_only_is_one() -> None:
    made = module(LATE.format(later="Later = int; del JobContext"))
    again = module(
        """
        from __future__ import annotations
        from jobq_core import job

        @job
        def work(context: JobContext, number: int) -> None: ...
        """
    )
    assert made.function.definition.wants_context
    assert again.work.definition.wants_context
    assert again.work.definition.decode_arguments(b'{"number":1}') == again.work(1)


def test_a_type_that_is_imported_for_type_checkers_only_is_refused_by_a_worker() -> None:
    @job
    def work(number: int, wait: timedelta | None = None) -> None: ...

    with pytest.raises(ConfigurationError, match=r"argument 'wait' cannot be resolved: .*`if TYPE_CHECKING:`"):
        Registry([work])


# Classes


def test_a_subclass_that_is_not_declared_is_refused() -> None:
    @job
    class Base(Job[int]):
        number: int

        def execute(self) -> int:
            return 1

    class Derived(Base):
        def execute(self) -> int:
            return 2

    for value in (Derived, Derived(1)):
        with pytest.raises(ConfigurationError, match="Derived is not a job of its own: decorate it with @job"):
            definition_of(value)
    assert definition_of(job(Derived)(1)).kind == "Derived"


def test_fields_of_a_base_must_be_those_of_an_attrs_class() -> None:
    class Plain(Job[int]):
        tenant: int

    with pytest.raises(
        ConfigurationError, match="argument 'tenant' of its base Plain would be lost: decorate the base"
    ):

        @job
        class Lost(Plain):
            number: int

    @attrs.frozen(slots=False)
    class Decorated(Job[int]):
        tenant: int

    @job
    class Kept(Decorated):
        number: int

    assert Kept(1, 2).definition.encode_arguments(Kept(1, 2)) == b'{"tenant":1,"number":2}'


@pytest.mark.parametrize("decorate", [attrs.define, attrs.frozen, dataclasses.dataclass])
def test_a_class_with_another_decorator_is_refused(decorate: Callable[..., Any]) -> None:
    class Work(Job[int]):
        number: int

    with pytest.raises(ConfigurationError, match="remove its other decorator"):
        job(decorate(Work))


# Parameters without a type


def test_parameters_without_a_type_are_warned_of_once() -> None:
    def export(sizes, when=None, number: int = 0) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.warns(
        UntypedArgumentWarning, match=r"job export: no type is declared for 'sizes', 'when': .*annotate"
    ) as caught:
        job(export)
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, export.__code__.co_firstlineno)


def test_any_is_a_type() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @job
        def export(sizes: Any, *, context_of: typing.Any = None):  # type: ignore[no-untyped-def]
            ...


# Results


@attrs.frozen
class Line:
    article: str
    price: Decimal


@pytest.mark.parametrize(
    ("wanted", "result", "says"),
    [
        (int, "seven", "Expected `int`, got `str`"),
        (int, None, "Expected `int`, got `null`"),
        (int, True, "Expected `int`, got `bool`"),
        (None, 7, "Expected `null`, got `int`"),
        (int | None, "seven", "Expected `int | null`, got `str`"),
        (list[int], [1, "x"], r"Expected `int`, got `str` - at `\$\[1\]`"),
        (dict[str, int], {"a": None}, r"Expected `int`, got `null` - at `\$\[\.\.\.\]`"),
        (Line, {"article": "pen"}, "missing required field `price`"),
        (datetime, "yesterday", "Invalid RFC3339"),
    ],
    ids=str,
)
def test_a_result_that_does_not_fit_its_declared_type_is_refused(wanted: Any, result: Any, says: str) -> None:
    def work() -> Any: ...

    work.__annotations__["return"] = wanted
    with pytest.raises(InvalidJobError, match=f"the result of work does not fit its declared type: .*{says}"):
        job(work).definition.encode_result(result)


@pytest.mark.parametrize(
    ("wanted", "result", "data"),
    [
        (Any, {"a": [None]}, b'{"a":[null]}'),
        (object, None, b"null"),
        (None, None, b"null"),
        (int | None, None, b"null"),
        (int | None, 7, b"7"),
        (float, 7, b"7"),
        (list[int], (1, 2), b"[1,2]"),
        (Line, Line("pen", Decimal("1.20")), b'{"article":"pen","price":"1.20"}'),
        (Line, {"article": "pen", "price": "1.20"}, b'{"article":"pen","price":"1.20"}'),
    ],
    ids=str,
)
def test_a_result_fits_where_its_json_does(wanted: Any, result: Any, data: bytes) -> None:
    def work() -> Any: ...

    work.__annotations__["return"] = wanted
    assert job(work).definition.encode_result(result) == data
