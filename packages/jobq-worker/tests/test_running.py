"""What happens to one job: every behaviour for async handlers and for handlers in threads."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from msgspec import structs

from jobq_core import (
    AbortSignalJobError,
    Backoff,
    JobAborted,
    JobCompleted,
    JobContext,
    JobDisabled,
    JobDisabledError,
    JobFailed,
    JobProgressed,
    JobRetried,
    JobState,
    PermanentJobError,
    RetryableJobError,
    RetryPolicy,
    Secret,
    job,
)
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_core.records import Progress
from jobq_worker.liveness import leases

from .kit import Endings, Stage, add, ending, pass_time, record, state, until, working
from .probe import Probe

Nature = Literal["async", "thread"]
AT_ONCE = RetryPolicy(backoff=Backoff(base=0))


@pytest.fixture(params=["async", "thread"])
def nature(request: pytest.FixtureRequest) -> Any:
    return request.param


def made(nature: Nature, body: Any, **options: Any) -> Any:
    """Declare a job named 'act' whose body is `body(context, n)`, run as this nature runs it."""
    if nature == "thread":

        def act(context: JobContext, n: int = 1) -> Any:
            return body(context, n)

        return job(**options)(act)

    async def act_async(context: JobContext, n: int = 1) -> Any:
        return body(context, n)

    return job(name="act", **options)(act_async)


def waiting(nature: Nature, stage: Stage, **options: Any) -> Any:
    """Declare a job that says 'started' and goes on until it is stopped, then says 'stopped'."""
    if nature == "thread":

        def act(context: JobContext) -> str:
            stage.reach("started")
            while not context.wait_aborted(5):
                pass
            stage.reach("stopped")
            context.check_aborted()
            return "never"

        return job(**options)(act)

    async def act_async(context: JobContext) -> str:
        stage.reach("started")
        try:
            await asyncio.Event().wait()
        finally:
            assert context.aborted
            stage.reach("stopped")
        return "never"

    return job(name="act", **options)(act_async)


async def test_a_handler_succeeds(storage: Probe, nature: Nature) -> None:
    act = made(nature, lambda _, n: {"twice": 2 * n, "text": "für 日本 🎉", "nested": [[1], {}]})
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act(n=21))
    assert isinstance(event, JobCompleted)
    found = await record(storage, event.job_id)
    assert found.state is JobState.COMPLETED
    assert found.result == {"twice": 42, "text": "für 日本 🎉", "nested": [[1], {}]}
    assert found.attempt == 1
    assert found.worker == event.worker == worker.id


@pytest.mark.parametrize("result", [0, False, "", None, []])
async def test_a_falsy_result_is_kept_as_it_is(storage: Probe, nature: Nature, result: Any) -> None:
    act = made(nature, lambda *_: result)
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act())
    found = (await record(storage, event.job_id)).result
    assert found == result
    assert type(found) is type(result)


async def test_a_handler_fails_with_type_message_and_its_own_traceback(storage: Probe, nature: Nature) -> None:
    def body(_: JobContext, n: int) -> None:
        raise LookupError(f"no order {n}")

    act = made(nature, body, max_attempts=1)
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act(n=7))
    assert isinstance(event, JobFailed)
    found = await record(storage, event.job_id)
    assert found.state is JobState.FAILED
    assert found.error is not None
    assert found.error.type == "LookupError"
    assert found.error.message == "no order 7"
    assert found.error.traceback is not None
    assert 'raise LookupError(f"no order {n}")' in found.error.traceback
    assert "jobq_worker" not in found.error.traceback
    assert found.attempts[0].error == found.error
    assert found.attempts[0].worker == worker.id


async def test_a_handler_times_out_and_is_stopped(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = waiting(nature, stage, timeout=0.05, max_attempts=1)
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act())
        await stage.reached("stopped")
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.type == "jobq_core.errors.JobTimeoutError"
    assert event.error.message == "act took longer than its timeout of 0.05 s"
    assert event.error.traceback is not None  # where it was when its time was over


async def test_a_timeout_of_nan_ends_a_run_and_makes_no_timer_of_the_loop_late(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a row that was edited by hand. A timer at NaN compares with no other: those behind it may never be due.
    act = waiting("async", stage, max_attempts=1)
    times: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def noting(when: float, *rest: Any, **named: Any) -> asyncio.TimerHandle:
        times.append(when)
        return call_at(when, *rest, **named)

    monkeypatch.setattr(loop, "call_at", noting)
    async with working(storage, act) as worker:
        new = new_job(new_id(), act(), "default", {})
        [added] = await storage.add([structs.replace(new, timeout=float("nan"))])
        event = await Endings(worker).of(added.id)
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.message == "act took longer than its timeout of nan s"
    assert times
    assert not any(map(math.isnan, times))


async def test_a_timeout_is_retried_by_the_policy(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = waiting(nature, stage, timeout=0.02, max_attempts=2, retry=AT_ONCE)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        assert isinstance(await endings.of(job_id, 1), JobRetried)
        assert isinstance(await endings.of(job_id, 2), JobFailed)


async def test_the_late_result_of_a_thread_past_its_timeout_counts_for_nothing(storage: Probe, stage: Stage) -> None:
    @job(timeout=0.02, max_attempts=1)
    def deaf() -> str:
        stage.wait("go on")
        return "late"

    @job()
    async def other() -> None: ...

    async with working(storage, deaf, other, concurrency=1) as worker:
        event = await ending(worker, storage, deaf())
        assert isinstance(event, JobFailed)
        assert isinstance(await ending(worker, storage, other()), JobCompleted)  # its slot was replaced
        stage.reach("go on")
        await until(lambda: worker.health().hung == 0)
    found = await record(storage, event.job_id)
    assert found.state is JobState.FAILED
    assert found.result is None
    assert len(storage.settlements_of(event.job_id)) == 1


async def test_a_notification_has_a_running_handler_aborted_at_once(
    storage: Probe, stage: Stage, nature: Nature, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "CHECK_SECONDS", 3600.0)
    act = waiting(nature, stage)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        await stage.reached("started")
        [change] = await storage.abort([job_id])
        assert change.asked
        await stage.reached("stopped")
        assert isinstance(await endings.of(job_id), JobAborted)
    found = await record(storage, job_id)
    assert found.state is JobState.ABORTED
    assert found.error is not None
    assert found.error.type == "jobq_core.errors.AbortSignalJobError"


async def test_an_abort_is_seen_within_seconds_without_notifications(
    storage: Probe, stage: Stage, nature: Nature
) -> None:
    storage.silent = True
    act = waiting(nature, stage)
    async with working(storage, act, poll_interval=0.02) as worker:
        job_id = await add(storage, act())
        await stage.reached("started")
        await storage.called("check_leases")
        endings = Endings(worker)
        await storage.abort([job_id])
        async with asyncio.timeout(5):
            assert isinstance(await endings.of(job_id), JobAborted)


async def test_a_handler_reports_progress_and_close_reports_are_written_as_one(
    storage: Probe, stage: Stage, nature: Nature
) -> None:
    def report(context: JobContext) -> None:
        context.progress(25, "quarter")
        context.progress(50, "half", {"rows": 3})

    @job(name="slow")
    async def in_loop(context: JobContext) -> None:
        report(context)
        await stage.reached("seen")

    @job(name="slow")
    def in_thread(context: JobContext) -> None:
        report(context)
        stage.wait("seen")

    slow = in_loop if nature == "async" else in_thread
    async with working(storage, slow) as worker:
        endings = Endings(worker)
        reports = worker.events(JobProgressed)
        job_id = await add(storage, slow())
        last = None
        while last is None or last.percent < 50:
            last = (await anext(reports)).progress
        assert last == Progress(percent=50, message="half", details={"rows": 3})
        assert (await record(storage, job_id)).progress == last
        stage.reach("seen")
        assert isinstance(await endings.of(job_id), JobCompleted)
    assert storage.calls["progress"] <= 2
    if nature == "async":
        assert storage.calls["progress"] == 1


async def test_progress_out_of_range_fails_the_run(storage: Probe, nature: Nature) -> None:
    act = made(nature, lambda context, _: context.progress(101), max_attempts=1)
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act())
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.message == "progress must be from 0 to 100, not 101"


async def test_a_traceback_never_shows_a_secret(storage: Probe, nature: Nature) -> None:
    if nature == "thread":

        @job(name="login", max_attempts=1)
        def login(password: Secret[str]) -> None:
            raise ValueError(f"cannot log in with {password.reveal()}")

    else:

        @job(name="login", max_attempts=1)
        async def login(password: Secret[str]) -> None:
            raise ValueError(f"cannot log in with {password.reveal()}")

    async with working(storage, login) as worker:
        event = await ending(worker, storage, login(Secret("hunter22")))
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.message == "cannot log in with ***"
    assert "hunter22" not in repr(event.error)
    assert "hunter22" not in repr((await record(storage, event.job_id)).attempts)


async def test_a_permanent_error_is_not_retried(storage: Probe, nature: Nature) -> None:
    def body(*_: Any) -> None:
        raise PermanentJobError("no such customer")

    act = made(nature, body, max_attempts=5)
    async with working(storage, act) as worker:
        assert isinstance(await ending(worker, storage, act()), JobFailed)
    assert worker.pool_stats().total.failed == 1
    assert worker.pool_stats().total.retried == 0


async def test_the_policy_says_which_exceptions_fail_at_once(storage: Probe, nature: Nature) -> None:
    def body(_: JobContext, n: int) -> None:
        raise KeyError(n) if n == 1 else OSError(n)

    act = made(nature, body, retry=RetryPolicy(fail_on=(KeyError,)))
    async with working(storage, act) as worker:
        assert isinstance(await ending(worker, storage, act(n=1)), JobFailed)
        assert isinstance(await ending(worker, storage, act(n=2)), JobRetried)


async def test_retry_at_is_when_it_runs_again(storage: Probe, nature: Nature) -> None:
    moment = datetime.now(UTC) + timedelta(hours=3)

    def body(*_: Any) -> None:
        raise RetryableJobError("the shop is closed", retry_at=moment)

    act = made(nature, body)
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act())
    assert isinstance(event, JobRetried)
    assert event.run_at == moment
    found = await record(storage, event.job_id)
    assert found.state is JobState.SCHEDULED
    assert found.run_at == moment


async def test_a_retry_after_a_delay_runs_again_by_itself(storage: Probe, stage: Stage, nature: Nature) -> None:
    def body(context: JobContext, _: int) -> str:
        if context.attempt == 1:
            raise RetryableJobError(delay=0.05)
        return "done"

    act = made(nature, body)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        first = await endings.of(job_id, 1)
        assert isinstance(first, JobRetried)
        assert first.delay == 0.05
        assert isinstance(await endings.of(job_id, 2), JobCompleted)


async def test_a_retryable_error_spends_attempts_too(storage: Probe, nature: Nature) -> None:
    def body(*_: Any) -> None:
        raise RetryableJobError(delay=0)

    act = made(nature, body, max_attempts=2)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        assert isinstance(await endings.of(job_id, 1), JobRetried)
        assert isinstance(await endings.of(job_id, 2), JobFailed)


async def test_other_errors_back_off_with_jitter(storage: Probe, nature: Nature) -> None:
    def body(*_: Any) -> None:
        raise OSError

    act = made(nature, body, retry=RetryPolicy(backoff=Backoff(base=1000)))
    async with working(storage, act) as worker:
        delays = set()
        for _ in range(8):
            event = await ending(worker, storage, act())
            assert isinstance(event, JobRetried)
            assert event.delay is not None
            assert 0 <= event.delay <= 1000
            delays.add(event.delay)
    assert len(delays) == 8


async def test_a_retry_policy_that_raises_fails_the_job_and_keeps_the_slot(storage: Probe, nature: Nature) -> None:
    class Confused(RetryPolicy):
        def retries(self, error: BaseException) -> bool:
            raise LookupError("which?")

    def body(*_: Any) -> None:
        raise OSError("no space left")

    act = made(nature, body, retry=Confused())
    async with working(storage, act, concurrency=1) as worker:
        for _ in range(3):
            event = await ending(worker, storage, act())
            assert isinstance(event, JobFailed)
            assert event.error is not None
            assert event.error.type == "OSError"
            assert "LookupError" in event.error.message


async def test_the_backoff_of_the_submission_goes_before_the_kinds_own(storage: Probe, nature: Nature) -> None:
    def body(*_: Any) -> None:
        raise OSError

    act = made(nature, body)
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act(), retry=Backoff(base=500, jitter=False))
    assert isinstance(event, JobRetried)
    assert event.delay == 500


async def test_three_attempts_are_three_runs_and_each_error_is_kept(
    storage: Probe, stage: Stage, nature: Nature
) -> None:
    def body(context: JobContext, _: int) -> None:
        stage.notes.append(context.attempt)
        raise ValueError(f"attempt {context.attempt}")

    act = made(nature, body, max_attempts=3, retry=AT_ONCE)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        assert isinstance(await endings.of(job_id, 3), JobFailed)
    assert stage.notes == [1, 2, 3]
    found = await record(storage, job_id)
    assert [entry.error.message for entry in found.attempts] == ["attempt 1", "attempt 2", "attempt 3"]
    assert [entry.number for entry in found.attempts] == [1, 2, 3]


async def test_a_job_past_its_deadline_is_never_started(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = made(nature, lambda *_: stage.notes.append("ran"))
    storage.fail("expire", 100)  # the worker is to find it by its claim
    job_id = await add(storage, act(), deadline=0)
    async with working(storage, act) as worker:
        event = await Endings(worker).of(job_id)
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.type == "jobq_core.errors.JobDeadlineError"
    assert event.error.message == "its deadline passed before it could start"
    assert stage.notes == []


async def test_a_deadline_that_passes_during_the_run_stops_it(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = waiting(nature, stage)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act(), deadline=600)
        await stage.reached("started")
        pass_time(600)
        event = await endings.of(job_id)
        await stage.reached("stopped")
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.message == "its deadline passed while it ran"


async def test_a_job_aborted_before_its_start_never_runs(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = made(nature, lambda _, n: stage.notes.append(n))
    first = await add(storage, act(n=1))
    await storage.abort([first])
    async with working(storage, act) as worker:
        await ending(worker, storage, act(n=2))
    assert stage.notes == [2]
    assert await state(storage, first) is JobState.ABORTED


async def test_a_finished_job_is_not_changed_by_an_abort(storage: Probe, nature: Nature) -> None:
    act = made(nature, lambda *_: "kept")
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act())
        [change] = await storage.abort([event.job_id])
        assert not change.changed
    found = await record(storage, event.job_id)
    assert found.state is JobState.COMPLETED
    assert found.result == "kept"


async def test_abort_by_run_touches_only_that_run(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = waiting(nature, stage)

    @job()
    async def gated() -> None:
        await stage.reached("go on")

    async with working(storage, act, gated) as worker:
        endings = Endings(worker)
        mine = await add(storage, act(), run_id="mine")
        other = await add(storage, gated(), run_id="other")
        await stage.reached("started")
        await storage.abort_run("mine")
        assert isinstance(await endings.of(mine), JobAborted)
        stage.reach("go on")
        assert isinstance(await endings.of(other), JobCompleted)


async def test_an_abort_request_does_not_survive_into_a_retry(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = waiting(nature, stage)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        await stage.reached("started")
        await storage.abort([job_id])
        await endings.of(job_id)

    again = made(nature, lambda *_: "again")
    async with working(storage, again) as worker:
        endings = Endings(worker)
        await storage.retry([job_id])
        assert isinstance(await endings.of(job_id), JobCompleted)


async def test_a_disabled_job_does_not_run_until_it_is_enabled(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = made(nature, lambda _, n: stage.notes.append(n))
    job_id = await add(storage, act(n=1))
    await storage.disable([job_id])
    async with working(storage, act) as worker:
        endings = Endings(worker)
        await endings.of(await add(storage, act(n=2)))
        assert stage.notes == [2]
        await storage.enable([job_id])
        assert isinstance(await endings.of(job_id), JobCompleted)
    assert stage.notes == [2, 1]


async def test_a_job_disabled_while_it_runs_ends_disabled(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = waiting(nature, stage)
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        await stage.reached("started")
        await storage.disable([job_id])
        assert isinstance(await endings.of(job_id), JobDisabled)
    assert await state(storage, job_id) is JobState.DISABLED


async def test_a_handler_may_abort_or_disable_its_own_job(storage: Probe, nature: Nature) -> None:
    def body(_: JobContext, n: int) -> None:
        raise AbortSignalJobError("not needed") if n == 1 else JobDisabledError("broken")

    act = made(nature, body)
    async with working(storage, act) as worker:
        assert isinstance(await ending(worker, storage, act(n=1)), JobAborted)
        assert isinstance(await ending(worker, storage, act(n=2)), JobDisabled)
    assert (await storage.counts("default"))["default"][JobState.DISABLED] == 1


async def test_a_completion_is_not_overwritten_by_a_late_abort(storage: Probe, nature: Nature) -> None:
    act = made(nature, lambda *_: "done")
    gate = storage.hold("check_leases")
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        assert isinstance(await endings.of(job_id), JobCompleted)
        [change] = await storage.abort([job_id])
        assert not change.changed
        gate.set()
    assert await state(storage, job_id) is JobState.COMPLETED


async def test_a_thread_that_never_saw_its_abort_and_completed_is_completed(storage: Probe, stage: Stage) -> None:
    @job()
    def deaf() -> str:
        stage.reach("started")
        stage.wait("go on")
        return "all done"

    async with working(storage, deaf) as worker:
        endings = Endings(worker)
        job_id = await add(storage, deaf())
        await stage.reached("started")
        await storage.abort([job_id])
        await storage.called("check_leases")
        stage.reach("go on")
        assert isinstance(await endings.of(job_id), JobCompleted)


@pytest.mark.parametrize("ends", ["returns", "raises"])
async def test_an_abort_is_not_overwritten_by_a_late_completion(
    storage: Probe, stage: Stage, nature: Nature, ends: str
) -> None:
    def finish() -> str:
        if ends == "raises":
            raise ValueError("cleanup failed")
        return "late"

    @job(name="act")
    def in_thread(context: JobContext) -> str:
        stage.reach("started")
        while not context.wait_aborted(5):
            pass
        return finish()

    @job(name="act")
    async def in_loop() -> str:
        stage.reach("started")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return finish()
        return "never"

    act = in_thread if nature == "thread" else in_loop
    async with working(storage, act) as worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        await stage.reached("started")
        await storage.abort([job_id])
        assert isinstance(await endings.of(job_id), JobAborted)
    found = await record(storage, job_id)
    assert found.state is JobState.ABORTED
    assert found.result is None


async def test_a_result_that_cannot_be_stored_fails_the_job_for_good(storage: Probe, nature: Nature) -> None:
    act = made(nature, lambda *_: "x" * (1024 * 1024))
    async with working(storage, act) as worker:
        event = await ending(worker, storage, act())
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.type == "jobq_core.errors.InvalidJobError"
    assert "completed, but its result cannot be stored: result of act takes 1048578 bytes" in event.error.message


@pytest.mark.parametrize(
    "error", [SystemExit("bye"), KeyboardInterrupt("stop"), GeneratorExit("odd"), StopIteration(1)]
)
async def test_whatever_a_handler_raises_fails_the_job_and_never_the_worker(
    storage: Probe, nature: Nature, error: BaseException
) -> None:
    def body(_: JobContext, n: int) -> str:
        if n == 1:
            raise error
        return "fine"

    act = made(nature, body, max_attempts=1)
    async with working(storage, act) as worker:
        assert isinstance(await ending(worker, storage, act(n=1)), JobFailed)
        assert isinstance(await ending(worker, storage, act(n=2)), JobCompleted)


async def test_a_context_says_which_run_it_is(storage: Probe, stage: Stage, nature: Nature) -> None:
    act = made(nature, lambda context, _: stage.notes.append(context))
    async with working(storage, act) as worker:
        event = await ending(
            worker, storage, act(), run_id="nightly", tags=["a", "b"], deadline=60, max_attempts=4, queue="default"
        )
    [context] = stage.notes
    found = await record(storage, event.job_id)
    assert (context.job_id, context.kind, context.queue) == (event.job_id, "act", "default")
    assert (context.attempt, context.max_attempts, context.lease) == (1, 4, found.lease)
    assert (context.run_id, context.tags, context.worker) == ("nightly", ("a", "b"), worker.id)
    assert found.deadline is not None
    assert abs(context.deadline - found.deadline) < timedelta(seconds=1)
