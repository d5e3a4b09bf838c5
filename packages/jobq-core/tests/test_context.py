from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from jobq_core.adding import decode_headers
from jobq_core.children import MAX_CHILDREN
from jobq_core.context import JobContext, check_progress
from jobq_core.declaring import job
from jobq_core.errors import AbortSignalJobError, ClosedError, ConfigurationError, InvalidJobError
from jobq_core.parents import parent_of
from jobq_core.records import Progress


def test_progress_is_reported_as_given() -> None:
    reports: list[Progress] = []
    context = JobContext(report=reports.append)
    context.progress(0)
    context.progress(50, "half")
    context.progress(100.0, details={"rows": [1]})
    assert reports == [
        Progress(percent=0.0),
        Progress(percent=50.0, message="half"),
        Progress(percent=100.0, details={"rows": [1]}),
    ]
    assert type(reports[0].percent) is float


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((-0.1,), "from 0 to 100"),
        ((100.1,), "from 0 to 100"),
        ((float("nan"),), "from 0 to 100"),
        ((1, "a\0"), "progress message holds a NUL"),
        ((1, "\ud800"), "progress message holds a lone surrogate"),
        ((1, "x" * 65_537), "a progress message must have at most 64 KiB"),
        ((1, "ü" * 32_769), "a progress message must have at most 64 KiB"),
        ((1, None, object()), "progress details cannot be written as JSON"),
        ((1, None, float("nan")), "progress details is nan"),
        ((1, None, "x" * 65_535), "progress details takes 65537 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_progress_that_cannot_be_kept_is_refused_and_not_reported(arguments: tuple[Any, ...], says: str) -> None:
    reports: list[Progress] = []
    with pytest.raises(InvalidJobError, match=says):
        JobContext(report=reports.append).progress(*arguments)
    assert reports == []


@pytest.mark.parametrize("percent", [0, 100, 0.5])
def test_the_bounds_belong_to_the_range(percent: float) -> None:
    assert check_progress(percent, None, None) == Progress(percent=percent)


def test_a_context_of_ones_own_reports_to_nobody() -> None:
    context = JobContext()
    context.progress(50)
    assert not context.aborted
    context.check_aborted()
    assert (context.attempt, context.max_attempts, context.queue, context.tags) == (1, 10, "default", ())


def test_two_contexts_of_ones_own_are_of_two_jobs() -> None:
    assert JobContext().job_id != JobContext().job_id


def test_a_run_that_is_to_stop_is_told_so() -> None:
    context = JobContext()
    context.request_stop()
    assert context.aborted
    assert context.wait_aborted(30)
    with pytest.raises(AbortSignalJobError, match=str(context.job_id)):
        context.check_aborted()


def test_a_thread_that_sleeps_is_woken_when_the_run_is_to_stop() -> None:
    context = JobContext()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(context.wait_aborted(30)))
    thread.start()
    context.request_stop()
    thread.join(timeout=30)
    assert answers == [True]


def test_a_sleep_that_nobody_ends_says_so() -> None:
    assert not JobContext().wait_aborted(0)
    assert not JobContext().wait_aborted(timedelta(0))


@job
async def follow_up(n: int) -> None: ...


@job(queue="mail")
async def mail(to: str, body: str = "") -> None: ...


def test_an_added_job_has_its_id_at_once_and_is_kept_for_the_worker() -> None:
    context = JobContext(queue="images")
    first = context.add(follow_up(1))
    second = context.add(mail("ann"), priority=3, delay=60, unique="ann")
    assert (first.kind, first.queue, first.job) == ("follow_up", "images", follow_up(1))
    assert (second.kind, second.queue) == ("mail", "mail")
    assert context.added == (first, second)
    one, two = context.take_added()
    assert (one.id, one.arguments) == (first.id, b'{"n":1}')
    assert (two.id, two.priority, two.run_at, two.unique_key) == (second.id, 3, 60.0, "ann")


def test_an_added_job_inherits_headers_and_run_id_unless_it_has_its_own() -> None:
    context = JobContext(headers={"tenant": "7"}, run_id="nightly")
    context.add(follow_up(1))
    context.add(follow_up(2), headers={"tenant": "8"}, run_id="other")
    context.add(follow_up(3), headers={})
    added = context.take_added()
    metas = [(decode_headers(job.meta), job.run_id) for job in added]
    assert metas == [({"tenant": "7"}, "nightly"), ({"tenant": "8"}, "other"), ({}, "nightly")]
    assert [parent_of(job.meta) for job in added] == [context.job_id] * 3


def test_an_added_job_is_checked_as_add_checks_it() -> None:
    context = JobContext()
    with pytest.raises(ConfigurationError, match="priority"):
        context.add(follow_up(1), priority=1000)
    with pytest.raises(InvalidJobError, match="n"):
        context.add(follow_up("x"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no option colour"):
        context.add(follow_up(1), colour="red")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="call it with its arguments"):
        context.add(follow_up)  # type: ignore[arg-type]
    assert context.take_added() == ()


def test_a_run_adds_a_bounded_number_of_jobs() -> None:
    context = JobContext()
    for n in range(MAX_CHILDREN):
        context.add(follow_up(n))
    with pytest.raises(InvalidJobError, match="one run can add 10000 jobs"):
        context.add(follow_up(0))
    assert len(context.take_added()) == MAX_CHILDREN


def test_a_run_adds_a_bounded_number_of_bytes() -> None:
    context = JobContext()
    for _ in range(67):
        context.add(mail("ann", "x" * 250_000))
    with pytest.raises(InvalidJobError, match="16 MiB"):
        context.add(mail("ann", "x" * 250_000))
    context.add(mail("bob"))


def test_nothing_is_added_after_the_end_of_the_handler() -> None:
    context = JobContext()
    context.add(follow_up(1))
    assert len(context.take_added()) == 1
    with pytest.raises(ClosedError, match=f"the handler of job {context.job_id} has ended"):
        context.add(follow_up(2))


def test_threads_of_one_handler_add_to_one_list() -> None:
    context = JobContext()
    ready = threading.Barrier(8)

    def add(n: int) -> None:
        ready.wait(30)
        context.add(follow_up(n))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(child.job.n for child in context.added) == list(range(8))  # type: ignore[attr-defined]
