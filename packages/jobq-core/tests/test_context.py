from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from jobq_core.context import JobContext, check_progress
from jobq_core.errors import AbortSignalJobError, InvalidJobError
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
