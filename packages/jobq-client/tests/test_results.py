from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from jobq_client.results import result_of
from jobq_core import (
    AbortSignalJobError,
    ErrorRecord,
    JobDisabledError,
    JobError,
    JobNotFoundError,
    JobState,
    Progress,
    RetryableJobError,
    WorkerLostError,
)
from jobq_core.storage import JobStatus

from .jobs import send_receipt


class PriceError(JobError):
    def __init__(self, article: str) -> None:
        super().__init__(f"no price for {article}")
        self.article = article


class StockError(JobError):
    def __init__(self, article: str, *, left: int) -> None:
        super().__init__(f"{left} left of {article}")


class StubbornError(JobError):
    def __init__(self, *, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


def raised(type_name: str, message: str = "", state: JobState = JobState.FAILED) -> BaseException:
    status = JobStatus(
        id=uuid4(),
        kind="send_receipt",
        queue="default",
        state=state,
        attempt=1,
        progress=Progress(),
        error=ErrorRecord(type=type_name, message=message),
    )
    with pytest.raises(Exception) as caught:
        result_of(status, send_receipt.definition)
    return caught.value


def name(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@pytest.mark.parametrize(
    "error", [RetryableJobError("later"), WorkerLostError("gone"), OSError(2, "No such file", "x")]
)
def test_type_and_message_are_those_of_the_worker(error: Exception) -> None:
    made = raised(name(type(error)), str(error))
    assert (type(made), str(made)) == (type(error), str(error))


def test_the_message_of_a_key_error_is_not_quoted_twice() -> None:
    made = raised("KeyError", str(KeyError("size")))
    assert type(made) is KeyError
    assert str(made) == "'size'"


def test_an_error_that_builds_its_message_is_made_with_the_stored_one() -> None:
    made = raised(name(PriceError), "no price for tea")
    assert type(made) is PriceError
    assert str(made) == "no price for tea"


def test_an_error_whose_init_takes_more_than_a_message_is_made() -> None:
    made = raised(name(StockError), "0 left of tea")
    assert type(made) is StockError
    assert str(made) == "0 left of tea"


def test_an_error_that_cannot_be_made_is_a_job_error_with_its_name() -> None:
    made = raised(name(StubbornError), "code 5")
    assert type(made) is JobError
    assert made.type_name == name(StubbornError)
    assert str(made) == "StubbornError: code 5"


@pytest.mark.parametrize("said", [JobNotFoundError, AbortSignalJobError, JobDisabledError])
def test_a_handlers_error_of_a_type_that_the_client_raises_itself_is_a_job_error(said: type[JobError]) -> None:
    made = raised(name(said), "the other job")
    assert type(made) is JobError
    assert made.type_name == name(said)


@pytest.mark.parametrize(
    "steering",
    ["StopIteration", "StopAsyncIteration", "SystemExit", "KeyboardInterrupt"],
)
def test_an_exception_that_controls_the_process_is_not_raised(steering: str) -> None:
    assert type(raised(steering, "x")) is JobError


def test_a_name_of_something_else_than_an_exception_is_not_called() -> None:
    assert type(raised("print", "x")) is JobError
    assert type(raised("exit", "x")) is JobError


def test_a_failure_without_a_record_is_a_job_error() -> None:
    status = JobStatus(
        id=uuid4(), kind="k", queue="q", state=JobState.FAILED, attempt=1, progress=Progress(), error=None
    )
    with pytest.raises(JobError, match=r"\(k\) failed"):
        result_of(status, None)


def test_the_reason_of_an_abort_or_disable_is_in_the_message() -> None:
    aborted = raised("x", "the shop closed", JobState.ABORTED)
    assert isinstance(aborted, AbortSignalJobError)
    assert str(aborted).endswith("was aborted: the shop closed")
    disabled = raised("x", "", JobState.DISABLED)
    assert isinstance(disabled, JobDisabledError)
    assert str(disabled).endswith("is disabled")


def test_cancellation_of_the_handler_does_not_cancel_the_waiter() -> None:
    assert type(raised(name(asyncio.CancelledError), "")) is JobError
