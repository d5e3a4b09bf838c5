from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from jobq_core import (
    AbortSignalJobError,
    Backoff,
    ConfigurationError,
    ErrorRecord,
    InvalidJobError,
    Job,
    JobDisabledError,
    PermanentJobError,
    RetryableJobError,
    RetryPolicy,
    Secret,
    Snooze,
    job,
)
from jobq_core.ids import new_id
from jobq_core.states import Ending
from jobq_core.storage import ClaimedJob, Settlement
from jobq_worker.around.completions import refuse_in_process
from jobq_worker.running.outcomes import Lost, Outcome, Raised, Returned, Unstorable
from jobq_worker.running.run import Handler, Run, Stop
from jobq_worker.settling.settlements import MAX_MESSAGE, MAX_TRACEBACK, describe, settlement_of


@job()
async def login(user: str, password: Secret[str], keys: dict[str, Secret[str]]) -> None: ...


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message today")


def record(error: BaseException, arguments: Job[None] | None = None) -> ErrorRecord:
    run = Run(ClaimedJob(new_id(), 1, "default", "login", b"{}", 1, 10), 0.0)
    run.arguments = arguments
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return describe(run, caught)


def test_the_type_is_the_qualified_name() -> None:
    assert record(ValueError("x")).type == "ValueError"
    assert record(OddError()).type.endswith("test_settlements.OddError")


def test_every_secret_at_any_depth_is_hidden_in_message_and_traceback() -> None:
    arguments = login("ada", Secret("hunter22"), {"api": Secret("k-123")})
    found = record(ValueError("ada with hunter22 and k-123"), arguments)
    assert found.message == "ada with *** and ***"
    assert found.traceback is not None
    assert "hunter22" not in found.traceback
    assert "k-123" not in found.traceback


def test_a_secret_in_the_cause_is_hidden_too() -> None:
    cause = OSError("password hunter22 refused")
    error = ValueError("cannot log in")
    error.__cause__ = cause
    found = record(error, login("ada", Secret("hunter22"), {}))
    assert found.traceback is not None
    assert "password *** refused" in found.traceback


def test_a_secret_where_a_long_text_is_cut_is_hidden_whole() -> None:
    secret = "s" * 50
    for place in range(MAX_MESSAGE // 2 - 80, MAX_MESSAGE // 2 + 20, 7):
        message = "x" * place + secret + "y" * MAX_MESSAGE
        assert "sss" not in record(ValueError(message), login("ada", Secret(secret), {})).message
    for place in range(MAX_TRACEBACK // 2 - 400, MAX_TRACEBACK // 2 + 20, 7):
        found = record(ValueError("x" * place + secret + "y" * MAX_TRACEBACK), login("ada", Secret(secret), {}))
        assert found.traceback is not None
        assert "sss" not in found.traceback


def test_long_texts_keep_their_beginning_and_end() -> None:
    found = record(ValueError("begin" + "x" * 100_000 + "end"))
    assert len(found.message) <= MAX_MESSAGE
    assert found.message.startswith("begin")
    assert found.message.endswith("end")
    assert found.traceback is not None
    assert len(found.traceback) <= MAX_TRACEBACK


@pytest.mark.parametrize("text", ["a\0b", "a\udc80b"])
def test_what_no_storage_can_keep_is_spelled_out(text: str) -> None:
    found = record(ValueError(text))
    found.message.encode()
    assert "\0" not in found.message + (found.traceback or "")
    assert found.message in ("a\\x00b", "a\\udc80b")


def test_an_error_without_a_message_of_its_own_is_still_told() -> None:
    assert record(OddError()).message == "<no message: str() raised RuntimeError>"


def test_an_error_that_was_never_raised_has_no_traceback() -> None:
    run = Run(ClaimedJob(new_id(), 1, "default", "login", b"{}", 1, 10), 0.0)
    assert describe(run, ValueError("x")).traceback is None


# From what a handler raised or returned to its settlement

POLICY = RetryPolicy(backoff=Backoff(base=100, jitter=False), fail_on=(LookupError,))


@job(retry=POLICY)
async def act() -> int: ...  # type: ignore[empty-body]


def run_of(attempt: int = 1) -> Run:
    """Return a run of `act` that was not asked to stop."""
    run = Run(ClaimedJob(new_id(), 1, "default", "act", b"{}", attempt, 3), 0.0)
    executor: Any = None
    run.handler = Handler(act.definition, lambda _: None, executor, act.definition.decode_arguments)
    return run


def settled(error: BaseException, attempt: int = 1) -> Settlement:
    """Return the settlement of a run that raised this."""
    settlement = settlement_of(run_of(attempt), Raised(error))
    assert settlement is not None
    return settlement


async def in_task_group(error: BaseException) -> BaseException:
    """Return what a TaskGroup raises for this exception of one of its tasks."""

    async def part() -> None:
        raise error

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(part())
            group.create_task(asyncio.Event().wait())
    except BaseException as raised:  # noqa: BLE001
        return raised
    raise AssertionError("the group raised nothing")


@pytest.mark.parametrize(
    ("error", "ending", "when"),
    [
        (PermanentJobError("no"), Ending.FAIL, None),
        (KeyError("no"), Ending.FAIL, None),
        (ValueError("no"), Ending.RETRY, 100),
        (RetryableJobError("no", delay=5), Ending.RETRY, 5),
        (AbortSignalJobError("no"), Ending.ABORT, None),
        (JobDisabledError("no"), Ending.HOLD, None),
        (Snooze(7), Ending.SNOOZE, 7),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_what_a_task_of_a_group_raises_counts_as_if_the_handler_had_raised_it(
    error: BaseException, ending: Ending, when: float | None
) -> None:
    alone, grouped = settled(error), settled(await in_task_group(error))
    for settlement in (alone, grouped):
        assert (settlement.ending, settlement.when) == (ending, when)
    if ending is Ending.SNOOZE:
        assert alone.error is grouped.error is None
        return
    assert alone.error is not None
    assert grouped.error is not None
    assert (alone.error.type, alone.error.message) == (grouped.error.type, grouped.error.message)
    assert grouped.error.traceback is not None
    assert "ExceptionGroup" in grouped.error.traceback


def test_a_snoozed_run_counts_no_attempt_even_in_the_last_one() -> None:
    assert settled(Snooze(7), attempt=3).ending is Ending.SNOOZE
    assert settled(ValueError(), attempt=3).ending is Ending.FAIL


def test_several_exceptions_are_recorded_as_their_group() -> None:
    found = settled(ExceptionGroup("two went wrong", [ValueError("one"), OSError("two")]))
    assert found.ending is Ending.RETRY
    assert found.error is not None
    assert (found.error.type, found.error.message) == ("ExceptionGroup", "two went wrong (2 sub-exceptions)")


def test_a_result_that_cannot_be_stored_says_that_the_handler_completed() -> None:
    settlement = settlement_of(run_of(), Unstorable(InvalidJobError("no JSON form")))
    assert settlement is not None
    assert settlement.ending is Ending.FAIL
    assert settlement.error is not None
    assert settlement.error.message.startswith("the handler completed, but its result cannot be stored: ")


@pytest.mark.parametrize(
    ("stop", "outcome", "ending", "said"),
    [
        (None, Returned(b"1"), Ending.RETRY, "the transaction that was given to complete_in was not committed"),
        (None, Raised(ValueError("own")), Ending.RETRY, "own"),
        (Stop.LOST, Returned(b"1"), Ending.RETRY, "the transaction that was given to complete_in was not committed"),
        (Stop.LOST, Raised(ValueError("own"), told=True), Ending.RETRY, "own"),
        (Stop.ABORT, Returned(b"1"), Ending.ABORT, "aborted while it ran"),
        (Stop.TIMEOUT, Raised(ValueError("own"), told=True), Ending.RETRY, "act took longer"),
    ],
)
def test_a_completion_that_was_written_but_not_committed_fails_the_run(
    stop: Stop | None, outcome: Outcome, ending: Ending, said: str
) -> None:
    run = run_of()
    run.job.timeout = 1.0
    run.stop, run.written = stop, Settlement(run.job.id, run.job.lease, Ending.COMPLETE, b"7")
    settlement = settlement_of(run, outcome)
    assert settlement is not None
    assert (settlement.ending, settlement.result) == (ending, None)
    assert settlement.error is not None
    assert settlement.error.message.startswith(said)


UNSTORABLE = Unstorable(InvalidJobError("no JSON form"))
TOLD = Unstorable(InvalidJobError("no JSON form"), told=True)


@pytest.mark.parametrize(
    ("outcome", "stop", "ending"),
    [
        (Returned(b"1"), None, Ending.COMPLETE),
        (Returned(b"1"), Stop.ABORT, Ending.COMPLETE),
        (Returned(b"1", told=True), Stop.ABORT, Ending.ABORT),
        (Returned(b"1", told=True), Stop.TIMEOUT, Ending.RETRY),
        (Returned(b"1", told=True), Stop.RELEASE, Ending.RELEASE),
        (Returned(b"1"), Stop.LOST, None),
        (UNSTORABLE, None, Ending.FAIL),
        (UNSTORABLE, Stop.DISABLE, Ending.FAIL),
        (TOLD, Stop.DISABLE, Ending.DISABLE),
        (UNSTORABLE, Stop.LOST, None),
        (Raised(ValueError()), None, Ending.RETRY),
        (Raised(ValueError()), Stop.ABORT, Ending.RETRY),
        (Raised(asyncio.CancelledError(), told=True), Stop.ABORT, Ending.ABORT),
        (Raised(asyncio.CancelledError(), told=True), Stop.DEADLINE, Ending.FAIL),
        (Raised(ValueError()), Stop.LOST, None),
        (Lost("its process was killed"), None, Ending.RETRY),
        (Lost("its process was killed"), Stop.LOST, None),
    ],
    ids=str,
)
def test_what_follows_from_how_a_handler_ended(outcome: Outcome, stop: Stop | None, ending: Ending | None) -> None:
    run = run_of()
    run.job = structs.replace(run.job, timeout=5.0)
    run.stop = stop
    settlement = settlement_of(run, outcome)
    assert (None if settlement is None else settlement.ending) == ending


def test_a_handler_that_its_executor_lost_says_why() -> None:
    settlement = settlement_of(run_of(), Lost("its process was killed by signal 9"))
    assert settlement is not None
    assert settlement.error is not None
    assert settlement.error.message == "its process was killed by signal 9"


def test_a_handler_in_a_process_cannot_complete_in_a_transaction() -> None:
    with pytest.raises(ConfigurationError, match="not in one that runs in a process"):
        refuse_in_process(object(), None)
