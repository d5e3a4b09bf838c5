"""Adding from threads by a storage's `SyncProducer`."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobq_client import SyncJobQueueClient, direct_adds
from jobq_client.direct_adds import RETRY_SECONDS, DirectAdds
from jobq_core import JobAdded, StorageError, StorageUnavailableError
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import Added, NewJob, SyncProducer
from jobq_core.testing import new_job

from .helpers import AWAY, Probe
from .jobs import keep
from .test_sync_client import spin


class Producer(SyncProducer):
    """Answers, after `before`, which may block or raise, that each job was added."""

    def __init__(self, before: Callable[[], object] = lambda: None, refuses: bool = False) -> None:
        self.before = before
        self.refuses = refuses
        self.groups: list[list[NewJob]] = []
        self.timeouts: list[float] = []
        self.closed = False

    def add(self, jobs: Sequence[NewJob], *, timeout: float) -> list[Added] | None:
        assert not self.closed
        self.groups.append(list(jobs))
        self.timeouts.append(timeout)
        self.before()
        return None if self.refuses else [Added(job.id, True) for job in jobs]

    def close(self) -> None:
        self.closed = True


class Direct(Probe):
    """Memory storage with a producer for threads, whose jobs it does not store."""

    def __init__(self, producer: Producer) -> None:
        super().__init__()
        self.producer = producer

    def sync_producer(self) -> SyncProducer:
        return self.producer


def away() -> None:
    raise StorageUnavailableError(AWAY)


def test_a_lone_job_is_sent_at_once() -> None:
    producer = Producer()
    adds = DirectAdds(producer, 7)
    jobs = [new_job(), new_job()]
    assert [adds.add(job) for job in jobs] == [Added(job.id, True) for job in jobs]
    assert producer.groups == [[job] for job in jobs]
    assert producer.timeouts == [7, 7]


def test_the_jobs_of_threads_that_wait_are_sent_together() -> None:
    leave = threading.Event()
    producer = Producer(leave.wait)
    adds = DirectAdds(producer, 10)
    jobs = [new_job() for _ in range(20)]
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(adds.add, jobs[0])
        spin(lambda: len(producer.groups) == 1)
        others = [threads.submit(adds.add, job) for job in jobs[1:]]
        spin(lambda: len(adds._waiting) == 19)
        leave.set()
        assert [each.result() for each in (first, *others)] == [Added(job.id, True) for job in jobs]
    assert [len(group) for group in producer.groups] == [1, 19]


def test_a_group_waits_for_the_next_jobs_of_the_threads_that_add_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_adds, "GATHER_SECONDS", 3600)
    leave = threading.Event()

    def hold() -> None:
        leave.wait()
        if len(producer.groups) == 2:
            monkeypatch.setattr(direct_adds, "GATHER_SECONDS", 0)  # one of the threads ends here

    producer = Producer(hold)
    adds = DirectAdds(producer, 10)

    def add_two() -> list[Added | None]:
        return [adds.add(new_job()), adds.add(new_job())]

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(add_two)
        spin(lambda: len(producer.groups) == 1)
        others = [threads.submit(add_two) for _ in range(2)]
        spin(lambda: len(adds._waiting) == 2)
        leave.set()
        assert all(all(each.result()) for each in (first, *others))
    assert [len(group) for group in producer.groups][:2] == [1, 3]


def test_an_interrupted_thread_that_waits_withdraws_its_job() -> None:
    leave = threading.Event()
    producer = Producer(leave.wait)
    adds = DirectAdds(producer, 10)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.get_ident()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(adds.add, new_job())
        spin(lambda: len(producer.groups) == 1)

        def interrupt_main() -> None:
            spin(lambda: len(adds._waiting) == 1)
            # Again and again: a signal that comes just before the main thread blocks does not interrupt it.
            while adds._waiting:
                signal.pthread_kill(main, signal.SIGUSR1)
                leave.wait(0.01)

        threads.submit(interrupt_main)
        with pytest.raises(KeyboardInterrupt):
            adds.add(new_job())
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        leave.set()
        assert first.result() is not None
    signal.signal(signal.SIGUSR1, before)
    assert [len(group) for group in producer.groups] == [1]


def test_after_an_error_all_jobs_are_left_to_the_portal_for_a_while() -> None:
    time = 100.0
    producer = Producer(away)
    adds = DirectAdds(producer, 10, now=lambda: time)
    assert adds.add(new_job()) is None
    producer.before = lambda: None
    assert adds.add(new_job()) is None
    assert len(producer.groups) == 1
    time += RETRY_SECONDS
    assert adds.add(new_job()) is not None


def test_an_answer_that_does_not_come_in_time_is_an_error_of_all_that_wait_for_it() -> None:
    time = 100.0

    def pass_time() -> None:
        nonlocal time
        time += 1
        away()

    adds = DirectAdds(Producer(pass_time), 0, now=lambda: time)
    job = new_job()
    with pytest.raises(StorageUnavailableError, match=f"{job.id} may or may not have been added: .* within 1 s"):
        adds.add(job)


def test_an_interrupted_sender_leaves_the_jobs_of_the_others_to_the_portal() -> None:
    leave = threading.Event()

    def interrupted() -> None:
        leave.wait()
        raise KeyboardInterrupt

    producer = Producer(leave.wait)
    adds = DirectAdds(producer, 10)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(adds.add, new_job())
        spin(lambda: len(producer.groups) == 1)
        others = [threads.submit(adds.add, new_job()) for _ in range(2)]
        spin(lambda: len(adds._waiting) == 2)
        producer.before = interrupted
        leave.set()
        assert first.result() is not None
        answers = [each.exception() or each.result() for each in others]
    assert sorted(type(answer).__name__ for answer in answers) == ["KeyboardInterrupt", "NoneType"]


def test_a_closed_one_leaves_all_to_the_portal() -> None:
    producer = Producer()
    adds = DirectAdds(producer, 10)
    adds.close()
    assert producer.closed
    assert adds.add(new_job()) is None


def test_the_client_adds_plain_jobs_by_it_and_others_by_the_portal() -> None:
    storage = Direct(Producer())
    added: queue.SimpleQueue[JobAdded] = queue.SimpleQueue()
    client = SyncJobQueueClient(storage, patience=3)
    client.on(JobAdded, added.put)
    for _ in range(2):
        with client:
            plain = client.add(keep(1), priority=5, delay=60)
            assert added.get() == JobAdded(job_id=plain.id, kind="keep", queue="default", created=True)
            unique = client.add(keep(1), unique="one")
            assert added.get().job_id == unique.id
        assert storage.producer.closed
        storage.producer.closed = False
    assert [[(job.priority, job.run_at) for job in group] for group in storage.producer.groups] == [[(5, 60)]] * 2
    assert storage.producer.timeouts == [3, 3]
    assert [len(group) for group in storage.added] == [1, 1]


@pytest.mark.parametrize("producer", [Producer(away), Producer(refuses=True)], ids=["failed", "refused"])
def test_a_job_that_is_left_to_the_portal_is_added_under_the_same_id(producer: Producer) -> None:
    storage = Direct(producer)
    with SyncJobQueueClient(storage) as client:
        handle = client.add(keep(1))
        ((tried,),) = producer.groups
        assert handle.id == tried.id
        assert handle.created
        assert client.size() == 1


def test_errors_of_the_storage_are_those_of_the_portal() -> None:
    storage = Direct(Producer(away))
    storage.refuse = lambda job: StorageError("the storage refuses it")
    with SyncJobQueueClient(storage) as client, pytest.raises(StorageError, match="the storage refuses it"):
        client.add(keep(1))


def test_a_storage_without_one_offers_none() -> None:
    assert MemoryQueueStorage().sync_producer() is None
