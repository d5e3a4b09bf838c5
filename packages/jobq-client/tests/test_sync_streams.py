"""Iterators, callbacks and events of `SyncJobQueueClient`."""

from __future__ import annotations

import contextvars
import gc
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jobq_client import SyncEventStream, SyncJobQueueClient
from jobq_core import (
    ClosedError,
    ConfigurationError,
    JobAdded,
    JobCompleted,
    JobProgressed,
    JobState,
    Progress,
)

from .helpers import ManualWorker, Probe
from .jobs import keep
from .test_sync_client import spin

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def client(probe: Probe) -> Iterator[SyncJobQueueClient]:
    with SyncJobQueueClient(probe, poll=0.01) as client:
        yield client
    assert probe.listening == 0, "something is left subscribed"


@pytest.fixture
def worker(client: SyncJobQueueClient, probe: Probe) -> ManualWorker:
    return client.run(ManualWorker(probe).register())


def test_progress_is_followed_with_a_plain_loop(client: SyncJobQueueClient, worker: ManualWorker) -> None:
    handle = client.add(keep(1))
    job = client.run(worker.claim_one())
    client.run(worker.report(job, 10, "one"))
    seen: list[Progress] = []
    for progress in handle.follow():
        seen.append(progress)
        if progress.message == "one":
            client.run(worker.report(job, 50, "two"))
        else:
            client.run(worker.complete(job))
    assert [each.message for each in seen] == ["one", "two"]
    assert handle.progress().percent == 50


@pytest.mark.parametrize("how", ["close", "drop"])
def test_an_iterator_that_is_left_ends_its_subscription(
    client: SyncJobQueueClient, worker: ManualWorker, probe: Probe, how: str
) -> None:
    handle = client.add(keep(1))
    client.run(worker.report(client.run(worker.claim_one()), 10))
    progress = handle.follow()
    assert next(progress).percent == 10
    assert probe.listening == 1
    if how == "close":
        progress.close()
    del progress
    gc.collect()
    spin(lambda: probe.listening == 0)


def test_an_iterator_does_nothing_before_its_first_item_is_asked_for(client: SyncJobQueueClient, probe: Probe) -> None:
    client.follow(client.add(keep(1)))
    assert probe.calls["get_status"] == 0


def test_all_jobs_are_found_with_one_query_a_page(
    client: SyncJobQueueClient, monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    handles = client.add_many(keep(number) for number in range(25))
    limits: list[int] = []
    find = probe.find

    def counting(*args: Any, **options: Any) -> Any:
        limits.append(options["limit"])
        return find(*args, **options)

    monkeypatch.setattr(probe, "find", counting)
    found = client.find_all(state=JobState.PENDING, page_size=10)
    assert next(found).id == handles[-1].id
    assert limits == [10]
    assert [each.id for each in found] == [each.id for each in handles[-2::-1]]
    assert limits == [10, 10, 10]


def test_progress_callbacks_run_in_a_thread_where_they_may_use_the_client(
    client: SyncJobQueueClient, worker: ManualWorker
) -> None:
    handle = client.add(keep(1))
    job = client.run(worker.claim_one())
    calls: queue.SimpleQueue[tuple[float, str, str, int]] = queue.SimpleQueue()

    def called(progress: Progress) -> None:
        assert progress.percent is not None
        calls.put((progress.percent, tenant.get(), threading.current_thread().name, client.size()))

    tenant.set("acme")
    cancel = client.on_progress(handle, called)
    tenant.set("other")
    client.run(worker.report(job, 10))
    assert calls.get() == (10, "acme", "jobq callbacks", 0)
    client.run(worker.report(job, 20))
    assert calls.get()[0] == 20
    cancel()
    cancel()


def test_what_a_callback_raises_is_logged_and_stops_nothing(
    client: SyncJobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    added: queue.SimpleQueue[JobAdded] = queue.SimpleQueue()

    def fail(event: JobAdded) -> None:
        raise SystemExit(3)

    client.on(JobAdded, fail)
    client.on(JobAdded, added.put)
    handles = [client.add(keep(number)) for number in range(2)]
    assert [added.get().job_id for _ in handles] == [handle.id for handle in handles]
    assert [record.message for record in caplog.records] == ["a callback failed"] * 2


async def test_an_async_callback_is_refused() -> None:
    client = SyncJobQueueClient("memory://")

    async def later(event: object) -> None:
        raise NotImplementedError

    for subscribe in (client.on, client.once):
        with pytest.raises(ConfigurationError, match="no async callbacks"):
            subscribe(JobAdded, later)
        with pytest.raises(ConfigurationError, match="function of one argument"):
            subscribe(JobAdded, 7)  # type: ignore[arg-type]


def test_callbacks_can_be_added_before_the_start_and_removed(probe: Probe) -> None:
    client = SyncJobQueueClient(probe)
    first: queue.SimpleQueue[JobAdded] = queue.SimpleQueue()
    every: queue.SimpleQueue[JobAdded] = queue.SimpleQueue()
    client.once(JobAdded, first.put)
    client.on(JobAdded, every.put)
    removed = client.on(JobAdded, first.put)
    removed()
    for _ in range(2):
        with client:
            handle = client.add(keep(1))
            assert every.get().job_id == handle.id
    assert first.get().job_id
    assert first.empty()


def test_events_are_read_with_a_plain_loop_until_the_client_stops(probe: Probe) -> None:
    client = SyncJobQueueClient(probe)
    client.start()
    worker = client.run(ManualWorker(probe).register())
    with client.events(JobAdded) as added, client.events() as all_events:
        ended: SyncEventStream[JobCompleted] = client.events(JobCompleted)
        progressed = client.next_event(JobProgressed)
        handle = client.add(keep(1))
        client.watch(handle)
        job = client.run(worker.claim_one())
        client.run(worker.report(job, 10))
        assert progressed.result(timeout=20).progress.percent == 10
        client.run(worker.complete(job, b"7"))
        assert next(added).job_id == handle.id
        assert next(ended).result_json == b"7"
        missed = client.next_event(JobProgressed)
        given_up = client.next_event(JobProgressed)
        assert given_up.cancel()
        client.stop()
        assert list(added) == []
        assert [type(event) for event in all_events] == [JobAdded, JobProgressed, JobCompleted]
        assert list(ended) == []
    with pytest.raises(ClosedError):
        missed.result(timeout=20)
    assert not client._client._futures
