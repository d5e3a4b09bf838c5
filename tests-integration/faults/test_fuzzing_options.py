"""Any value for every option of every object that users construct: the object works, or the error names the option."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fuzzing.values import Drawn, one_odd
from fuzzing.verdicts import Refused, attempt, try_all, words_for
from hypothesis import strategies as st
from scaling import Scale

from jobq_client import JobQueueClient
from jobq_core import (
    Backoff,
    CompositeLimiter,
    ConcurrencyLimiter,
    DelayLimiter,
    EvenlySpacedRateLimiter,
    NullLimiter,
    RateLimiter,
    Retention,
    RetryPolicy,
    job,
)
from jobq_core.memory import MemoryQueueStorage
from jobq_server import JobQueue, JobQueueServer, QueueMode
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_sqlite import SqliteQueueStorage
from jobq_worker import JobQueueWorker


@job()
def declared() -> None: ...


async def _limits(limiter: Any) -> None:
    grant = await limiter.acquire(3)
    assert 0 <= grant.count <= 3
    assert grant.retry_in is None or grant.retry_in >= 0
    await limiter.started(grant.count)
    await limiter.finished(grant.count)


def check_limiter(limiter: Any) -> None:
    asyncio.run(_limits(limiter))


def check_backoff(backoff: Backoff) -> None:
    for number in (1, 2, 100, 32767):
        assert 0 <= backoff.delay(number) <= 10 * 365 * 86400


def check_policy(policy: RetryPolicy) -> None:
    assert policy.retries(ValueError()) in (True, False)
    check_backoff(policy.backoff)


def check_declared(made: Any) -> None:
    assert made.definition.encode_arguments(made(7)) == b'{"number":7}'
    check_policy(made.definition.retry)
    JobQueueWorker(MemoryQueueStorage(), jobs=[made])


def declare(**options: Any) -> Any:
    def count(number: int) -> int:
        return number

    return job(**options)(count)


def check_repr(made: Any) -> None:
    assert repr(made)


exceptions = st.lists(st.sampled_from([ValueError, OSError, KeyError]), max_size=2).map(tuple)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9)
seconds = st.one_of(st.floats(0.1, 1e6), st.integers(1, 100))
limiters = st.sampled_from([NullLimiter(), ConcurrencyLimiter(3)])
pool: Mapping[str, st.SearchStrategy[Any]] = {
    "limiter": limiters,
    "retention": st.one_of(st.just(Retention()), st.dictionaries(names, st.just(Retention(failed=0)), max_size=2)),
    "heartbeat_interval": st.floats(0.1, 10),
    "lost_after": st.floats(30, 60),
    "poll_interval": seconds,
    "stop_timeout": seconds,
    "max_hung": st.one_of(st.none(), st.integers(0, 100)),
    "exit_when_hung": st.booleans(),
    "process_limit": st.one_of(st.none(), st.integers(1, 100)),
    "process_max_jobs": st.one_of(st.none(), st.integers(1, 100)),
    "process_max_memory": st.one_of(st.none(), st.integers(1, 100), st.just("2GiB")),
    "metrics_port": st.one_of(st.none(), st.integers(0, 65_535)),
    "metrics_host": names,
}
jobs = st.sampled_from([[declared], (), [inspect.getmodule(declared)]])
queues = st.lists(names.filter(lambda name: "," not in name), min_size=1, max_size=3)
storages = st.sampled_from(["memory://", "memory://shared"])

Target = tuple[Callable[..., Any], Mapping[str, st.SearchStrategy[Any]], Mapping[str, str], Callable[[Any], None]]
TARGETS: dict[str, Target] = {
    "job": (
        declare,
        {
            "name": names,
            "queue": names,
            "priority": st.integers(-100, 100),
            "max_attempts": st.integers(1, 32767),
            "timeout": seconds,
            "retry": st.just(RetryPolicy()),
            "executor": st.sampled_from(["async", "thread", "process"]),
            "fingerprint": st.booleans(),
            "errors": exceptions,
        },
        {"name": "the name of a job"},
        check_declared,
    ),
    "Backoff": (
        Backoff,
        {"base": seconds, "factor": st.floats(1, 100), "maximum": seconds, "jitter": st.booleans()},
        {},
        check_backoff,
    ),
    "RetryPolicy": (
        RetryPolicy,
        {"backoff": st.just(Backoff()), "fail_on": exceptions, "retry_on": exceptions},
        {},
        check_policy,
    ),
    "Retention": (Retention, {"completed": seconds, "failed": seconds, "aborted": seconds}, {}, check_repr),
    "ConcurrencyLimiter": (
        ConcurrencyLimiter,
        {"max": st.integers(1, 9), "scope": st.just("worker"), "name": names},
        {},
        check_limiter,
    ),
    "RateLimiter": (
        RateLimiter,
        {"max": st.integers(1, 9), "per": seconds, "scope": st.just("worker"), "name": names},
        {},
        check_limiter,
    ),
    "EvenlySpacedRateLimiter": (
        EvenlySpacedRateLimiter,
        {"max": st.integers(1, 9), "per": seconds, "scope": st.just("worker"), "name": names},
        {},
        check_limiter,
    ),
    "DelayLimiter": (
        DelayLimiter,
        {"seconds": seconds, "scope": st.just("worker"), "name": names},
        {"seconds": "DelayLimiter"},
        check_limiter,
    ),
    "CompositeLimiter": (
        CompositeLimiter,
        {"limiters": st.lists(limiters, min_size=1, max_size=2), "name": names},
        {"limiters": "CompositeLimiter"},
        check_limiter,
    ),
    "JobQueueClient": (
        JobQueueClient,
        {"storage": storages, "queue": names, "patience": seconds, "poll": seconds},
        {},
        lambda client: client.queue.encode(),
    ),
    "JobQueueWorker": (
        JobQueueWorker,
        {"storage": storages, "jobs": jobs, "queues": queues, "concurrency": st.integers(0, 9), "name": names, **pool},
        {"jobs": "job", "name": "the name of a worker", "queues": "queue"},
        lambda worker: worker.health(),
    ),
    "JobQueueServer": (
        JobQueueServer,
        {"storage": storages, "jobs": jobs, "queues": queues, "worker_count": st.integers(0, 9), "name": names, **pool},
        {"jobs": "job", "name": "the name of a worker", "queues": "queue"},
        lambda server: server.health(),
    ),
    "JobQueue": (
        JobQueue,
        {
            "name": names,
            "storage": storages,
            "jobs": jobs,
            "mode": st.sampled_from(["client", QueueMode.BOTH]),
            "worker_count": st.integers(0, 9),
            **pool,
        },
        {"jobs": "job"},
        check_repr,
    ),
    "MemoryQueueStorage": (
        MemoryQueueStorage,
        {"name": names},
        {"name": "memory storage"},
        lambda storage: storage.url.encode(),
    ),
    "SqliteQueueStorage": (
        SqliteQueueStorage,
        {
            "path": st.sampled_from(["jobs.db", "/no/such/folder/jobs.db"]),
            "synchronous": st.sampled_from(["FULL", "NORMAL"]),
            "busy_timeout": seconds,
            "migrate": st.booleans(),
        },
        {"path": "file"},
        lambda storage: storage.url.encode(),
    ),
    "PostgresQueueStorage": (
        PostgresQueueStorage,
        {
            "dsn": st.sampled_from(["postgresql://user@host/database", "host=somewhere dbname=database"]),
            "schema": st.sampled_from(["jobq", "another"]),
            "listen_dsn": st.just("postgresql://user@other/database"),
            "pool_size": st.integers(1, 99),
            "time_limit": st.floats(0.1, 60),
            "prepared": st.booleans(),
        },
        {"dsn": "DSN", "listen_dsn": "DSN"},
        lambda storage: storage.url.encode(),
    ),
}  # fmt: skip
NEEDED = {
    "ConcurrencyLimiter": {"max"},
    "RateLimiter": {"max", "per"},
    "EvenlySpacedRateLimiter": {"max", "per"},
    "DelayLimiter": {"seconds"},
    "CompositeLimiter": {"limiters"},
    "JobQueueClient": {"storage"},
    "JobQueueWorker": {"storage"},
    "JobQueueServer": {"storage"},
    "JobQueue": {"name"},
    "SqliteQueueStorage": {"path"},
    "PostgresQueueStorage": {"dsn"},
}
EXAMPLES = 250


@pytest.mark.parametrize("name", TARGETS)
def test_an_object_works_or_an_error_names_the_option(
    name: str, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    make, options, words, check = TARGETS[name]
    options_drawn = one_odd(options, NEEDED.get(name, set()))
    refused = 0

    def check_one(drawn: Drawn) -> None:
        nonlocal refused
        made = attempt(lambda: make(**drawn.given), words_for(drawn.odd, words))
        if isinstance(made, Refused):
            refused += 1
        else:
            check(made)

    tried = try_all(options_drawn, check_one, count=scale.times(EXAMPLES, least=50), seed=seed)
    report("odd options", tried=tried)
    assert 0 < refused <= tried
