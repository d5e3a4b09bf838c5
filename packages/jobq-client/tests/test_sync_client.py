"""`SyncJobQueueClient`: the async client's methods, for threads."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from jobq_client import JobHandle, JobQueueClient, SyncJobHandle, SyncJobQueueClient
from jobq_core import (
    AbortSignalJobError,
    ClosedError,
    ConfigurationError,
    InvalidJobError,
    JobError,
    JobNotFoundError,
    JobState,
    StorageUnavailableError,
    WaitTimeoutError,
)
from jobq_core.caller_thread import call_in_caller
from jobq_core.storage import Added, NewJob, Retention

from .helpers import ManualWorker, Probe
from .jobs import CardDeclinedError, Receipt, convert, keep, print_receipt, send_letter, send_receipt

PROGRAMS = Path(__file__).with_name("programs")

OF_THE_LOOP = {"close_events", "emit", "event_loop", "leave_parent", "wants"}
"""What the async client has for itself, or for its event loop."""


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def client(probe: Probe) -> Iterator[SyncJobQueueClient]:
    with SyncJobQueueClient(probe) as client:
        yield client
    assert probe.listening == 0, "something is left subscribed"


@pytest.fixture
def worker(client: SyncJobQueueClient, probe: Probe) -> ManualWorker:
    return client.run(ManualWorker(probe).register())


def spin(condition: Callable[[], bool]) -> None:
    """Give way to other threads until the condition holds, or the test's time limit passes."""
    while not condition():
        time.sleep(0)


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_it_has_every_method_of_the_async_client_with_the_same_parameters() -> None:
    assert public(JobQueueClient) - public(SyncJobQueueClient) == OF_THE_LOOP
    assert public(SyncJobQueueClient) - public(JobQueueClient) == {"run"}
    assert public(SyncJobHandle) == public(JobHandle)
    for cls, twin in ((JobQueueClient, SyncJobQueueClient), (JobHandle, SyncJobHandle)):
        for name in public(twin) & public(cls):
            if callable(member := getattr(twin, name)):
                expected = inspect.signature(getattr(cls, name)).parameters
                found = inspect.signature(member).parameters
                assert list(found) == list(expected), name
                assert [each.default for each in found.values()] == [each.default for each in expected.values()], name


def test_a_job_is_added_and_its_result_comes_in_its_declared_type(
    client: SyncJobQueueClient, worker: ManualWorker
) -> None:
    handle = client.add(print_receipt(7), priority=5)
    assert (handle.kind, handle.queue, handle.created) == ("print_receipt", "default", True)
    client.run(worker.run(b'{"number":7,"lines":["a"]}'))
    assert handle.result(timeout=5) == Receipt(7, ["a"])
    assert client.wait_for(str(handle.id)) == {"number": 7, "lines": ["a"]}
    assert client.handle(str(handle.id), print_receipt).result() == Receipt(7, ["a"])


def test_jobs_are_read_and_controlled(client: SyncJobQueueClient, worker: ManualWorker) -> None:
    first, second, third = client.add_many([keep(n) for n in range(3)], run_id="night")
    assert [each.id for each in client.peek(3)] == [first.id, second.id, third.id]
    assert client.find(run_id="night", limit=2).jobs[0].id == third.id
    assert client.size() == client.counts()[JobState.PENDING] == 3
    assert first.abort()
    assert not client.abort(first.id)
    assert client.retry(first)
    assert client.disable(second)
    assert client.enable(second)
    assert client.delete(third)
    record = client.get(second)
    assert record is not None
    assert record.state is JobState.PENDING
    assert client.abort_run("night") == 2
    with pytest.raises(AbortSignalJobError):
        first.result(timeout=0)
    assert client.clear() == 2
    client.pause("mail")
    client.set_queue("mail", retention=Retention())
    assert [each.name for each in client.queues()] == ["mail"]
    client.resume("mail")
    client.add(convert({"a": 1}))
    client.run(worker.run(b'"x"'))
    assert client.output_for(convert({"a": 1})) == "x"
    assert [each.info.id for each in client.run(client.storage.workers())] == [worker.id]


def test_errors_are_those_of_the_async_client(client: SyncJobQueueClient, worker: ManualWorker, probe: Probe) -> None:
    handle = client.add(send_receipt(1))
    with pytest.raises(WaitTimeoutError, match="has not ended after 0 seconds: it is pending"):
        handle.result(timeout=0)
    with pytest.raises(WaitTimeoutError, match="has not ended"):
        client.wait_for(handle, timeout=0.001)
    job = client.run(worker.claim_one())
    client.run(worker.fail(job, f"{CardDeclinedError.__module__}.CardDeclinedError", "no"))
    with pytest.raises(CardDeclinedError, match="no") as caught:
        handle.result()
    assert f"Job {handle.id} (send_receipt), attempt 1" in caught.value.__notes__[0]
    with pytest.raises(JobNotFoundError):
        client.progress_of(uuid4())
    with pytest.raises(JobNotFoundError):
        next(client.follow(uuid4()))
    with pytest.raises(InvalidJobError):
        client.add(keep(object()))
    with pytest.raises(ConfigurationError, match="priority"):
        client.add(keep(1), priority=101)
    with pytest.raises(ConfigurationError, match="limit"):
        client.find(limit=0)
    with pytest.raises(ConfigurationError, match="page_size"):
        next(client.find_all(page_size=0))
    probe.fail("get_status")
    with pytest.raises(StorageUnavailableError):
        client.wait_for(handle, timeout=0)
    assert issubclass(CardDeclinedError, Exception)
    assert not issubclass(CardDeclinedError, JobError)


def test_a_client_that_is_not_running_raises_closed_error() -> None:
    client = SyncJobQueueClient("memory://")
    coroutine = asyncio.sleep(0)
    calls: list[Callable[[], object]] = [
        lambda: client.add(keep(1)),
        lambda: client.add_many([keep(1)]),
        lambda: client.wait_for(uuid4()),
        lambda: client.on_progress(uuid4(), print),
        lambda: next(client.follow(uuid4())),
        lambda: next(client.find_all()),
        lambda: client.storage,
        lambda: client.run(coroutine),
    ]
    for _ in range(2):
        for call in calls:
            with pytest.raises(ClosedError, match="inside `with`, or call start"):
                call()
        with client:
            assert client.is_running
        assert not client.is_running
    client.stop()


def test_it_can_be_started_stopped_and_started_again_and_starting_twice_does_nothing() -> None:
    client = SyncJobQueueClient(f"memory://{uuid4()}")
    for count in (1, 2, 3):
        client.start()
        client.start()
        client.add(keep(1))
        assert client.size() == count
        client.stop()
        client.stop()


def test_a_start_that_fails_leaves_the_client_stopped(probe: Probe) -> None:
    client = SyncJobQueueClient(probe)
    probe.fail("now")
    with pytest.raises(StorageUnavailableError):
        client.start()
    assert not client.is_running
    with pytest.raises(ClosedError):
        client.size()
    with client:
        assert client.size() == 0


async def test_on_a_running_event_loop_it_names_the_async_client_and_sends_nothing(probe: Probe) -> None:
    client = SyncJobQueueClient(probe)
    with pytest.raises(ConfigurationError, match="running event loop"):
        client.start()
    await asyncio.to_thread(client.start)
    job_id = uuid4()
    calls: list[Callable[[], object]] = [
        lambda: client.add(keep(1)),
        lambda: client.add_many([keep(1)]),
        lambda: client.wait_for(job_id),
        lambda: next(client.follow(job_id)),
        lambda: client.on_progress(job_id, print),
        lambda: client.watch(job_id),
        lambda: client.run(probe.workers()),
        client.counts,
        client.start,
        client.stop,
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match=r"running event loop.*nothing was sent.*Use JobQueueClient"):
            call()
    assert probe.calls["add"] == 0
    assert await asyncio.to_thread(client.size) == 0
    await asyncio.to_thread(client.stop)


def test_the_concurrent_adds_of_threads_share_commits(client: SyncJobQueueClient, probe: Probe) -> None:
    client.add(keep(0))
    gate = probe.hold("add")
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(client.add, keep(1))
        spin(lambda: probe.calls["add"] == 2)
        later = [threads.submit(client.add, keep(n)) for n in range(2, 21)]
        session = client._client._session
        assert session is not None
        adds = session.plain_adds
        spin(lambda: len(adds._sending) + len(adds._waiting) == 19)
        client.run(_set(gate))
        handles = {each.result() for each in (first, *later)}
    assert len(handles) == 20
    assert sum(map(len, probe.added)) == 21
    assert len(probe.added) <= 4


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_stopping_ends_the_wait_of_another_thread(probe: Probe) -> None:
    client = SyncJobQueueClient(probe)
    client.start()
    handle = client.add(keep(1))
    with ThreadPoolExecutor(1) as threads:
        wait = threads.submit(handle.result)
        spin(lambda: probe.listening == 1)
        client.stop()
        with pytest.raises(ClosedError):
            wait.result()


def test_an_interrupted_wait_ends_its_subscription(client: SyncJobQueueClient, probe: Probe) -> None:
    handle = client.add(keep(1))
    interrupted = threading.Event()

    def interrupt_once(*_: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        spin(lambda: probe.listening == 1)
        # Again and again: a signal that comes just before the main thread blocks does not interrupt it.
        while not interrupted.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt_once)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            handle.result()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    spin(lambda: probe.listening == 0)
    assert client.size() == 1


def test_a_generator_of_jobs_runs_in_the_thread_of_the_caller(client: SyncJobQueueClient) -> None:
    seen: list[int] = []

    def jobs() -> Iterator[Any]:
        for number in range(3):
            seen.append(threading.get_ident())
            yield keep(number)

    assert len(client.add_many(jobs())) == 3
    assert set(seen) == {threading.get_ident()}
    with pytest.raises(ConfigurationError, match="add_many"):
        client.add_many(7)  # type: ignore[arg-type]


def test_a_connection_of_the_caller_is_used_in_the_thread_of_the_caller() -> None:
    used: list[tuple[object, int]] = []

    class Borrowing(Probe):
        async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
            await call_in_caller(lambda: used.append((connection, threading.get_ident())))
            if connection == "refused":
                raise ConfigurationError("to another database")
            return await super().add(jobs)

    with SyncJobQueueClient(Borrowing()) as client:
        client.add(keep(1), connection="mine", priority=3)
        client.add_many([keep(2), keep(3)], connection="mine")
        with pytest.raises(ConfigurationError, match="another database"):
            client.add(keep(4), connection="refused")
        assert [job.priority for job in client.peek(10)] == [3, 0, 0]
    assert used == [("mine", threading.get_ident())] * 2 + [("refused", threading.get_ident())]


def test_a_handle_of_either_client_names_a_job_to_the_other(client: SyncJobQueueClient) -> None:
    handle = client.add(send_letter("x"))

    async def use() -> bool:
        async with JobQueueClient(client.storage) as other:
            theirs = other.handle(handle.id, send_letter)
            assert theirs == handle
            assert hash(theirs) == hash(handle)
            return await other.abort(handle)

    assert client.run(use())
    with pytest.raises(AbortSignalJobError):
        client.wait_for(JobQueueClient("memory://").handle(handle.id, send_letter))


def test_a_client_that_threads_use_at_a_fork_works_in_the_parent_and_in_the_children() -> None:
    run_program("forking.py")


def test_a_process_ends_though_its_client_was_not_stopped() -> None:
    run_program("unstopped.py")


def run_program(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAMS / program), "memory://"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_jobs_are_altered_and_found_from_a_thread(client: SyncJobQueueClient, worker: ManualWorker) -> None:
    handle = client.add(keep(7), delay=60)
    assert client.move(handle, "mail")
    assert client.set_priority(handle, 9)
    assert client.reschedule(handle, delay=600)
    assert client.why(handle).code == "delayed"
    assert client.logs(handle) == []
    assert client.run_now(handle)
    assert client.count(queue="mail", argument=("value", 7)) == 1
    assert [record.priority for record in client.find_all(queue="mail", argument=("value", 7), page_size=1)] == [9]
    assert [(depth.queue, depth.jobs) for depth in client.depths()] == [("mail", 1)]
    with pytest.raises(TypeError, match=r"find\(\) has no condition colour"):
        client.find(colour="red")  # type: ignore[call-arg]
