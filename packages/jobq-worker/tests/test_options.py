"""The options of a worker as one value: what is refused, in whose words, and that each is written once."""

from __future__ import annotations

import typing
from datetime import timedelta
from typing import Any

import attrs
import pytest

from jobq_core import ConfigurationError, NullLimiter, job
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import Retention
from jobq_worker import JobQueueWorker, WorkerKeywords, WorkerOptions
from jobq_worker.commands import worker
from jobq_worker.options import COMMAND_LINE, check_options


@job(queue="mail")
async def quick() -> None: ...


def test_each_option_is_a_keyword_of_the_worker_and_the_other_way_round() -> None:
    fields = {field.name for field in attrs.fields(WorkerOptions)}
    assert set(typing.get_type_hints(WorkerKeywords)) == fields


def test_the_command_takes_each_option_that_has_a_place_on_the_command_line() -> None:
    fields = {field.name for field in attrs.fields(WorkerOptions) if COMMAND_LINE in field.metadata}
    taken = {parameter.name for parameter in worker.params}
    assert taken == fields | {"modules", "discover", "storage", "processes", "reload", "log_level", "log_format"}
    assert {"poll_interval", "concurrency", "queues"} <= fields


def test_the_defaults() -> None:
    options = WorkerOptions()
    assert (options.queues, options.concurrency, options.limiter, options.retention) == (None, 10, None, {})
    seconds = (options.heartbeat_interval, options.lost_after, options.poll_interval, options.stop_timeout)
    assert seconds == (10, 30, 1, 30)
    assert options.name


def test_lengths_of_time_may_be_timedeltas() -> None:
    options = WorkerOptions(lost_after=timedelta(minutes=2), stop_timeout=timedelta(0))
    assert (options.lost_after, options.stop_timeout) == (120.0, 0.0)


def test_a_level_is_a_name_or_a_number() -> None:
    assert [WorkerOptions(keep_logs=level).keep_logs for level in ("info", "ERROR", 7, 0, None)] == [20, 40, 7, 0, None]


def test_queues_are_named_once_each() -> None:
    assert WorkerOptions(queues=["mail", "default", "mail"]).queues == ("mail", "default")


def test_a_limiter_without_limits_is_left_out() -> None:
    assert WorkerOptions(limiter=NullLimiter()).limiter is None


def test_one_retention_is_that_of_each_queue() -> None:
    kept = Retention(failed=None)
    assert WorkerOptions(retention=kept).retention_of(["a", "b"]) == {"a": kept, "b": kept}
    assert WorkerOptions(retention={"mail": kept}).retention_of(["a", "b"]) == {"mail": kept}
    assert WorkerOptions().retention_of(["a"]) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queues": []}, "queues must be a list"),
        ({"queues": "mail"}, "queues must be several, as in queues="),
        ({"queues": 5}, "queues must be several, as in queues="),
        ({"concurrency": 10**20}, "concurrency must be a whole number, 0 or more and at most 100000"),
        ({"concurrency": -1}, "concurrency must be"),
        ({"lost_after": 10**400}, "lost_after must be"),
        ({"lost_after": 15}, "must be at least twice heartbeat_interval"),
        ({"retention": 5}, "retention must be a Retention"),
        ({"retention": {"mail": 5}}, "retention must be a Retention"),
        ({"retention": {"": Retention()}}, "a queue must be text"),
        ({"queues": [""]}, "a queue must be text"),
        ({"queues": ["mail,default"]}, r"write queues=\['mail', 'default'\], or --queue mail --queue default on"),
        ({"heartbeat_interval": 0}, "heartbeat_interval must be"),
        ({"poll_interval": float("inf")}, "poll_interval must be"),
        ({"stop_timeout": -1}, "stop_timeout must be"),
        ({"stop_timeout": timedelta(-1)}, "stop_timeout must be"),
        ({"max_hung": -1}, "max_hung must be"),
        ({"exit_when_hung": 1}, "exit_when_hung must be"),
        ({"name": ""}, "the name of a worker"),
        ({"keep_logs": "loud"}, "keep_logs must be a level of logging .*info.* not 'loud'"),
        ({"keep_logs": -1}, "keep_logs must be a level"),
        ({"keep_logs": True}, "keep_logs must be a level"),
        ({"limiter": 5}, "limiter must be a Limiter"),
        ({"jobs": 5}, "jobs must be several"),
        ({"lost_aftr": 3}, "^JobQueueWorker has no option 'lost_aftr'; did you mean lost_after\\?$"),
        ({"worker_count": 3}, "^JobQueueWorker has no option 'worker_count'; its options are jobs, queues, "),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        JobQueueWorker("memory://", **options)


RENAMED = {"concurrency": "worker_count"}
EXCLUDED = {"queues": "its workers take jobs from its own queue"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 3}, "^JobQueue has no option 'concurrency'; here it is called 'worker_count'$"),
        ({"worker_count": -1}, "^worker_count must be a whole number"),
        ({"worker_cont": 1}, "did you mean worker_count"),
        ({"queues": ["mail"]}, "^JobQueue has no option 'queues': its workers take jobs from its own queue$"),
    ],
)
def test_an_owner_may_have_words_of_its_own(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_options("JobQueue", options, renamed=RENAMED, excluded=EXCLUDED)
    assert check_options("JobQueue", {"worker_count": 3}, renamed=RENAMED).concurrency == 3


async def test_a_worker_takes_checked_options_instead_of_keywords() -> None:
    options = WorkerOptions(jobs=[quick], concurrency=3, name="w1")
    worker = JobQueueWorker(MemoryQueueStorage(), options)
    assert (worker.concurrency, worker.name, worker.queues) == (3, "w1", ("mail",))
    with pytest.raises(ConfigurationError, match="name: give either options or keywords"):
        JobQueueWorker(MemoryQueueStorage(), options, name="w2")
