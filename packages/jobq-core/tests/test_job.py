from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import attrs
import pytest

from jobq_core.context import JobContext
from jobq_core.declaring import job
from jobq_core.encoding import fingerprint
from jobq_core.errors import ConfigurationError, InvalidJobError, UnfitArgumentsError
from jobq_core.job import MAX_ATTEMPTS, Job, JobDefinition, check_name, definition_of
from jobq_core.retry import Backoff, RetryPolicy
from jobq_core.secret import Secret


@attrs.frozen
class Address:
    street: str
    number: int = 1


@attrs.frozen
class Order:
    number: int


@job(queue="mail", max_attempts=5)
async def send_receipt(order_id: int, *, copy_to: str | None = None) -> str:
    """Send a receipt."""
    return f"{order_id} {copy_to}"


@job()
def report(context: JobContext, address: Address, at: datetime) -> dict[str, int]:
    context.progress(50)
    return {address.street: at.year}


@job(queue="images", timeout=60, priority=3)
class Thumbnail(Job[str]):
    path: str
    width: int = 256

    def execute(self, context: JobContext) -> str:
        return f"{self.path} at {self.width}, attempt {context.attempt}"


@job(name="resize")
class Resize(Job[None]):
    path: str


@job()
class Ping(Job[int]):
    async def execute(self) -> int:
        return 7


# Functions


def test_a_call_of_a_declared_function_makes_a_value_and_runs_nothing() -> None:
    assert isinstance(send_receipt(7), Job)
    value: Any = send_receipt(7, copy_to="a@b")
    assert (value.order_id, value.copy_to) == (7, "a@b")
    assert value == send_receipt(order_id=7, copy_to="a@b")
    assert value != send_receipt(order_id=8, copy_to="a@b")
    assert hash(value) == hash(send_receipt(7, copy_to="a@b"))
    assert repr(value) == "send_receipt(order_id=7, copy_to='a@b')"


def test_a_call_takes_the_arguments_of_the_function() -> None:
    assert send_receipt(7).copy_to is None  # type: ignore[attr-defined]
    for arguments, options in (((), {}), ((1, "a@b"), {}), ((1,), {"other": 2})):
        with pytest.raises(TypeError):
            send_receipt(*arguments, **options)  # type: ignore[arg-type]


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        send_receipt(7).order_id = 8  # type: ignore[attr-defined]


async def test_the_function_itself_can_be_called() -> None:
    assert await send_receipt.func(order_id=7) == "7 None"


def test_a_declared_function_says_what_it_is() -> None:
    assert repr(send_receipt) == "<job 'send_receipt'>"
    assert (send_receipt.__doc__, send_receipt.__name__) == ("Send a receipt.", "send_receipt")
    assert send_receipt.__module__ == __name__
    definition = send_receipt.definition
    assert (definition.kind, definition.queue, definition.max_attempts) == ("send_receipt", "mail", 5)
    assert (definition.is_async, definition.wants_context, definition.result_type) == (True, False, str)


async def test_the_body_runs_a_job_value() -> None:
    definition = send_receipt.definition
    assert definition.handler is not None
    assert await definition.handler(send_receipt(7, copy_to="x")) == "7 x"


def test_a_context_is_supplied_at_run_time_and_is_not_an_argument() -> None:
    definition = report.definition
    assert definition.wants_context
    assert not definition.is_async
    value = report(Address("Elm"), at=datetime(2026, 1, 1, tzinfo=UTC))
    assert b"context" not in definition.encode_arguments(value)
    told: list[float] = []
    context = JobContext(report=lambda progress: told.append(progress.percent))
    assert definition.handler is not None
    assert definition.handler(value, context) == {"Elm": 2026}
    assert told == [50]


def test_defaults_of_a_declaration() -> None:
    definition = report.definition
    assert (definition.queue, definition.priority, definition.max_attempts, definition.timeout) == (None, 0, 10, None)
    assert (definition.executor, definition.fingerprint, definition.errors) == (None, False, ())
    assert definition.retry == RetryPolicy()


def test_all_that_can_be_declared_is_kept() -> None:
    policy = RetryPolicy(backoff=Backoff(base=2), fail_on=(KeyError,))

    @job(
        name="other",
        queue="q",
        priority=-100,
        max_attempts=32767,
        timeout=0.5,
        retry=policy,
        executor="thread",
        fingerprint=True,
        errors=(LookupError,),
    )
    def work() -> None: ...

    definition = work.definition
    assert (definition.kind, definition.queue, definition.priority) == ("other", "q", -100)
    assert (definition.max_attempts, definition.timeout, definition.retry) == (32767, 0.5, policy)
    assert (definition.executor, definition.fingerprint, definition.errors) == ("thread", True, (LookupError,))


def test_a_timeout_may_be_a_timedelta() -> None:
    @job(timeout=timedelta(minutes=1))
    def work() -> None: ...

    assert work.definition.timeout == 60.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ""}, "the name of a job"),
        ({"name": "x" * 256}, "the name of a job"),
        ({"name": "a\0"}, "NUL"),
        ({"queue": ""}, "queue"),
        ({"queue": 7}, "queue"),
        ({"queue": "\ud800"}, "surrogate"),
        ({"priority": 101}, "-100 to 100"),
        ({"priority": -101}, "-100 to 100"),
        ({"priority": True}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"max_attempts": 0}, "from 1 to 32767"),
        ({"max_attempts": MAX_ATTEMPTS + 1}, "from 1 to 32767"),
        ({"max_attempts": True}, "max_attempts"),
        ({"timeout": 0}, "more than 0 seconds"),
        ({"timeout": -1}, "more than 0 seconds"),
        ({"timeout": True}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "1"}, "timeout"),
        ({"timeout": timedelta(0)}, "more than 0 seconds"),
        ({"retry": Backoff()}, "retry must be a RetryPolicy"),
        ({"retry": 0}, "retry must be a RetryPolicy"),
        ({"executor": 7}, "executor must be 'async', 'thread' or 'process', not 7"),
        ({"executor": "gpu"}, "executor must be 'async', 'thread' or 'process', not 'gpu'"),
        ({"executor": "interpreter"}, "executor='interpreter' is not supported"),
        ({"fingerprint": "no"}, "fingerprint must be True or False"),
        ({"errors": None}, "errors must be several"),
        ({"errors": ValueError}, "errors must be several"),
        ({"errors": ["ValueError"]}, "errors must be types of exceptions"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_where_the_job_is_declared(options: dict[str, Any], says: str) -> None:
    def work() -> None: ...

    with pytest.raises(ConfigurationError, match=says):
        job(**options)(work)


def test_signatures_that_cannot_be_stored_are_refused() -> None:
    def positional(*numbers: int) -> None: ...
    def keywords(**options: int) -> None: ...
    def only(number: int, /) -> None: ...
    def mutable(items: list[int] = []) -> None: ...  # noqa: B006
    def taken(definition: int) -> None: ...

    for func, says in (
        (positional, "cannot be stored by name"),
        (keywords, "cannot be stored by name"),
        (only, "cannot be stored by name"),
        (mutable, "default of 'items' is mutable"),
        (taken, "cannot be called 'definition'"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            job()(func)


# Classes


def test_a_class_of_fields_becomes_a_frozen_value() -> None:
    value = Thumbnail("a.png")
    assert (value.path, value.width) == ("a.png", 256)
    assert value == Thumbnail(path="a.png", width=256)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.width = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Thumbnail()  # type: ignore[call-arg]


def test_a_class_says_what_it_is() -> None:
    definition = Thumbnail.definition
    assert definition.job_type is Thumbnail
    assert (definition.kind, definition.queue, definition.timeout, definition.priority) == (
        "Thumbnail",
        "images",
        60,
        3,
    )
    assert (definition.wants_context, definition.is_async, definition.result_type) == (True, False, str)
    assert definition.handler is not None
    assert definition.handler(Thumbnail("a"), JobContext(attempt=2)) == "a at 256, attempt 2"


async def test_a_body_may_be_async_and_need_no_context() -> None:
    definition = Ping.definition
    assert (definition.wants_context, definition.is_async) == (False, True)
    assert definition.handler is not None
    assert await definition.handler(Ping()) == 7


def test_a_class_without_execute_is_a_contract() -> None:
    assert Resize.definition.handler is None
    assert Resize.definition.kind == "resize"
    assert Resize.definition.decode_result(b"null") is None


def test_a_class_must_be_a_job_and_be_declared() -> None:
    class Plain:
        pass

    with pytest.raises(ConfigurationError, match="must be a subclass of Job"):
        job()(Plain)

    class Forgotten(Job[int]):
        number: int

    with pytest.raises(TypeError, match="decorate the class with @job"):
        Forgotten(1)


# On the way into the storage and back


@pytest.mark.parametrize(
    "value",
    [
        send_receipt(7),
        send_receipt(2**63 - 1, copy_to="ünï"),
        report(Address("Elm", 5), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
        Thumbnail("a.png", 5),
        Ping(),
    ],
    ids=repr,
)
def test_arguments_come_back_as_the_same_value(value: Job[Any]) -> None:
    definition = definition_of(value)
    data = definition.encode_arguments(value)
    assert definition.decode_arguments(data) == value
    assert definition.decode_arguments(data.decode()) == value
    assert type(definition.decode_arguments(data)) is definition.job_type


def test_arguments_of_the_wrong_type_are_refused_by_name() -> None:
    with pytest.raises(InvalidJobError, match=r"send_receipt: .*int.*\$\.order_id"):
        send_receipt.definition.encode_arguments(send_receipt("seven"))  # type: ignore[arg-type]
    with pytest.raises(InvalidJobError, match=r"Thumbnail: .*\$\.width"):
        Thumbnail.definition.encode_arguments(Thumbnail("a", 1.5))  # type: ignore[arg-type]


def test_stored_arguments_that_no_longer_fit_are_refused() -> None:
    for data in (b"{}", b'{"order_id":"x"}', b"[]", b'{"order_id":"\xff"}'):
        with pytest.raises(UnfitArgumentsError, match="send_receipt: the arguments do not fit"):
            send_receipt.definition.decode_arguments(data)
    # No declaration can take damaged JSON.
    with pytest.raises(InvalidJobError, match="send_receipt: the arguments do not fit"):
        send_receipt.definition.decode_arguments(b"not json")


def test_stored_arguments_get_the_defaults_of_fields_that_came_later() -> None:
    assert Thumbnail.definition.decode_arguments(b'{"path":"a"}') == Thumbnail("a")


def test_a_secret_argument_is_stored_and_hidden() -> None:
    @job()
    def log_in(password: Secret[str]) -> None: ...

    value = log_in(Secret("hunter2"))
    assert "hunter2" not in repr(value)
    data = log_in.definition.encode_arguments(value)
    assert data == b'{"password":"hunter2"}'
    assert log_in.definition.decode_arguments(data) == value


def test_arguments_beyond_256_kib_are_refused_by_kind() -> None:
    Thumbnail.definition.encode_arguments(Thumbnail("x" * 262_000))
    with pytest.raises(InvalidJobError, match=r"Thumbnail takes \d+ bytes"):
        Thumbnail.definition.encode_arguments(Thumbnail("x" * 262_144))


@pytest.mark.parametrize("result", [0, False, "", None, [], {}, 1.5, "ünï", [[1], {"a": None}]])
def test_a_result_comes_back_as_it_was(result: Any) -> None:
    @job()
    def work() -> Any: ...

    back = work.definition.decode_result(work.definition.encode_result(result))
    assert back == result
    assert type(back) is type(result)


def test_a_result_comes_back_in_its_declared_type() -> None:
    @job()
    def locate() -> dict[UUID, Address]: ...  # type: ignore[empty-body]

    result = {UUID(int=1): Address("Elm", 2)}
    assert locate.definition.decode_result(locate.definition.encode_result(result)) == result
    with pytest.raises(InvalidJobError, match="the result of locate does not fit its declared type"):
        locate.definition.decode_result(b'{"x":1}')


def test_a_result_beyond_a_megabyte_or_json_is_refused() -> None:
    @job
    def work() -> Any: ...

    definition = work.definition
    definition.encode_result("x" * (1024 * 1024 - 2))
    with pytest.raises(InvalidJobError, match="result of work takes"):
        definition.encode_result("x" * (1024 * 1024 - 1))
    with pytest.raises(InvalidJobError, match="result of work cannot be written as JSON"):
        definition.encode_result(object())


def test_a_fingerprint_is_made_for_kinds_that_ask_for_one() -> None:
    @job(fingerprint=True)
    def work(a: int, b: int) -> None: ...

    data = work.definition.encode_arguments(work(1, 2))
    assert work.definition.fingerprint_of(data) == fingerprint("work", data)
    assert work.definition.fingerprint_of(data) == work.definition.fingerprint_of(b'{"b":2,"a":1}')
    assert Ping.definition.fingerprint_of(b"{}") is None


# Finding the definition


@pytest.mark.parametrize("declared", [send_receipt, send_receipt(7), Thumbnail, Thumbnail("a")], ids=repr)
def test_a_declared_job_has_a_definition(declared: object) -> None:
    assert isinstance(definition_of(declared), JobDefinition)


@pytest.mark.parametrize("other", [None, 7, "send_receipt", len, Job, JobContext], ids=repr)
def test_anything_else_has_none(other: object) -> None:
    with pytest.raises(ConfigurationError, match="is not a job"):
        definition_of(other)


@pytest.mark.parametrize("name", ["a", "x" * 255, "ünï", "with space", "\n"], ids=repr)
def test_names_of_up_to_255_characters_are_fine(name: str) -> None:
    assert check_name(name, "queue") == name


class Loud(str):
    """Text of a class of its own."""


class Shelf(enum.StrEnum):
    TOP = "top"


class Colour(str, enum.Enum):  # noqa: UP042  (this is what is about)
    RED = "red"


@pytest.mark.parametrize(("name", "plain"), [(Loud("loud"), "loud"), (Shelf.TOP, "top"), (Colour.RED, "red")])
def test_a_name_of_a_class_of_its_own_becomes_plain_text(name: str, plain: str) -> None:
    checked = check_name(name, "queue")
    assert (checked, type(checked)) == (plain, str)


def test_two_declarations_are_two_definitions() -> None:
    def work() -> None: ...

    assert job()(work).definition is not job()(work).definition
