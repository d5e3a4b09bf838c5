"""Notifications: the topics that each change notifies. Needless notifications are allowed, and not tested."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jobq_core.errors import ClosedError
from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    FINISHED_TOPIC,
    PROGRESS_TOPIC,
    REQUEST_TOPIC,
    UNKNOWN_KIND,
    WAITING_TOPIC,
    ProgressReport,
    QueueStorage,
    Subscription,
    queue_topic,
)
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    case,
    claim_one,
    job_in,
    new_job,
    register_worker,
    settle,
    start_one,
)

SAFETY_NET = 20.0
"""Seconds after which a missing notification is a failure; others take milliseconds."""

TOPIC = queue_topic("default")
ALL_TOPICS = (TOPIC, FINISHED_TOPIC, PROGRESS_TOPIC, REQUEST_TOPIC, WAITING_TOPIC)

Act = Callable[[], Awaitable[object]]
Prepare = Callable[["NotificationsContract", QueueStorage, WorkerInfo], Awaitable[Act]]


async def notified(subscription: Subscription, topic: str) -> None:
    """Wait until a topic is notified."""
    async with asyncio.timeout(SAFETY_NET):
        while topic not in await subscription.wait():
            pass


async def silence(subscription: Subscription) -> None:
    """Wait until all notifications of earlier changes have arrived."""
    async with asyncio.timeout(SAFETY_NET):
        while await subscription.wait(timeout=0.03):
            pass


def settling(ending: Ending, when: float | None = None, reason: str | None = None) -> Prepare:
    """Prepare a settlement."""

    async def prepare(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        return lambda: settle(storage, worker, claimed, ending, when=when, reason=reason, error=ERROR)

    return prepare


def controlling(operation: str, state: JobState, **options: object) -> Prepare:
    """Prepare an operation on a job in a state."""

    async def prepare(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
        job = await job_in(storage, worker, state, run_id="r", **options)
        if operation == "abort_run":
            return lambda: storage.abort_run("r")
        if operation == "clear":
            return lambda: storage.clear("default")
        return lambda: getattr(storage, operation)([job])

    return prepare


def adding(**options: object) -> Prepare:
    """Prepare adding a job."""

    async def prepare(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
        return lambda: storage.add([new_job(**options)])

    return prepare


def rescuing(request: str | None = None, max_attempts: int = 10) -> Prepare:
    """Prepare the rescue of a job."""

    async def prepare(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
        job = await add_job(storage, max_attempts=max_attempts)
        await start_one(storage, worker)
        if request is not None:
            await getattr(storage, request)([job])
        await suite.advance(storage, worker.lost_after + 1)
        return storage.rescue

    return prepare


async def withdrawing(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
    """Prepare the withdrawal of a request to disable."""
    job = await job_in(storage, worker, JobState.PROCESSING)
    await storage.disable([job])
    return lambda: storage.enable([job])


async def promoting(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
    """Prepare the promotion of a job."""
    await add_job(storage, run_at=60.0)
    await suite.advance(storage, 61)
    return storage.promote


async def registering(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
    """Prepare the registration of another worker."""
    return lambda: register_worker(storage)


async def reporting(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
    """Prepare a report of progress."""
    job = await add_job(storage)
    claimed = await claim_one(storage, worker)
    report = ProgressReport(id=job, lease=claimed.lease, progress=Progress(percent=5.0))
    return lambda: storage.progress(worker.id, [report])


async def changing_details(suite: NotificationsContract, storage: QueueStorage, worker: WorkerInfo) -> Act:
    """Prepare a report that changes nothing but the details."""
    job = await add_job(storage)
    claimed = await claim_one(storage, worker)
    first = ProgressReport(id=job, lease=claimed.lease, progress=Progress(percent=5.0, details=1))
    await storage.progress(worker.id, [first])
    second = ProgressReport(id=job, lease=claimed.lease, progress=Progress(percent=5.0, details=2))
    return lambda: storage.progress(worker.id, [second])


S = JobState

CHANGES: dict[str, dict[str, Prepare]] = {
    TOPIC: {
        "add": adding(),
        "retry at once": settling(Ending.RETRY),
        "release": settling(Ending.RELEASE),
        "retry by hand": controlling("retry", S.FAILED),
        "enable": controlling("enable", S.DISABLED),
        "promote": promoting,
        "rescue": rescuing(),
    },
    FINISHED_TOPIC: {
        "complete": settling(Ending.COMPLETE),
        "fail": settling(Ending.FAIL),
        "end aborted": settling(Ending.ABORT),
        "end held back": settling(Ending.HOLD),
        **{f"abort {s}": controlling("abort", s) for s in (S.PENDING, S.SCHEDULED, S.BLOCKED, S.DISABLED)},
        "abort a run": controlling("abort_run", S.PENDING),
        **{f"disable {s}": controlling("disable", s) for s in (S.PENDING, S.SCHEDULED, S.BLOCKED)},
        **{f"delete {s}": controlling("delete", s) for s in JobState},
        "clear": controlling("clear", S.PENDING),
        "rescue with no attempts left": rescuing(max_attempts=1),
        "rescue after abort": rescuing("abort"),
        "rescue after disable": rescuing("disable"),
    },
    PROGRESS_TOPIC: {
        "progress": reporting,
        "progress of the details alone": changing_details,
    },
    REQUEST_TOPIC: {
        "abort a running job": controlling("abort", S.PROCESSING),
        "abort a run of running jobs": controlling("abort_run", S.PROCESSING),
        "disable a running job": controlling("disable", S.PROCESSING),
        "enable a running job again": withdrawing,
        "delete a running job": controlling("delete", S.PROCESSING),
        "clear a running job": controlling("clear", S.PROCESSING),
        "rescue": rescuing(),
    },
    WAITING_TOPIC: {
        "add for later": adding(run_at=60.0),
        "add with a deadline": adding(deadline=60.0),
        "register a worker": registering,
        "retry later": settling(Ending.RETRY, 60.0),
        "release for later": settling(Ending.RELEASE, 60.0, UNKNOWN_KIND),
        "enable before its time": controlling("enable", S.DISABLED, run_at=600.0),
    },
}
"""The changes that notify a topic, by topic."""


class NotificationsContract(ContractBase):
    """Each change notifies its subscriptions, in this process and in others."""

    @pytest.mark.parametrize("topic", ALL_TOPICS)
    async def test_each_change_notifies_the_subscriptions_to_its_topic(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, topic: str
    ) -> None:
        async with storage.subscribe([topic]) as here, other.subscribe([topic]) as there:
            for name, prepare in CHANGES[topic].items():
                with case(name):
                    await storage.clear("default")
                    await storage.register(worker)
                    act = await prepare(self, storage, worker)
                    # A late notification of the preparation must not be taken for that of the act.
                    await asyncio.gather(silence(here), silence(there))
                    await act()
                    await asyncio.gather(notified(here, topic), notified(there, topic))

    async def test_a_notification_wakes_a_subscription_that_waits(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        async with other.subscribe([TOPIC]) as subscription:
            await silence(subscription)
            waiting = asyncio.create_task(notified(subscription, TOPIC))
            await asyncio.sleep(0)
            await add_job(storage)
            await waiting

    async def test_a_notification_between_two_waits_is_not_lost(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        async with other.subscribe([TOPIC, WAITING_TOPIC]) as quiet, other.subscribe([TOPIC]) as witness:
            for _ in range(5):
                await asyncio.gather(silence(quiet), silence(witness))
                await add_job(storage)
                await notified(witness, TOPIC)
                await notified(quiet, TOPIC)

    async def test_a_wait_returns_all_notified_topics(self, storage: QueueStorage, other: QueueStorage) -> None:
        async with other.subscribe(ALL_TOPICS) as subscription:
            await silence(subscription)
            await storage.add([new_job(), new_job(run_at=60.0)])
            await storage.abort([await add_job(storage)])
            topics: set[str] = set()
            async with asyncio.timeout(SAFETY_NET):
                while not topics >= {TOPIC, WAITING_TOPIC, FINISHED_TOPIC}:
                    topics |= await subscription.wait()
            assert topics <= set(ALL_TOPICS)

    async def test_each_queue_has_a_topic_of_its_own(self, storage: QueueStorage, other: QueueStorage) -> None:
        queues = ["a", "b", "with space, 'quote' and ünïcode " * 7]
        async with other.subscribe(map(queue_topic, queues)) as subscription:
            for queue in queues:
                await silence(subscription)
                await add_job(storage, queue=queue)
                await notified(subscription, queue_topic(queue))

    async def test_a_wait_without_a_notification_returns_an_empty_set_at_its_timeout(
        self, storage: QueueStorage
    ) -> None:
        async with storage.subscribe(ALL_TOPICS) as subscription:
            await silence(subscription)
            assert await subscription.wait(timeout=0.01) == frozenset()
            assert await subscription.wait(timeout=0) == frozenset()

    async def test_every_subscription_receives_each_notification(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        async with (
            storage.subscribe([TOPIC]) as one,
            storage.subscribe([TOPIC]) as two,
            other.subscribe([TOPIC]) as three,
        ):
            everybody = (one, two, three)
            for _ in range(3):
                await asyncio.gather(*map(silence, everybody))
                await add_job(storage)
                await asyncio.gather(*(notified(each, TOPIC) for each in everybody))

    async def test_a_subscription_that_ended_does_not_disturb_the_others(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        async with other.subscribe([TOPIC, WAITING_TOPIC]) as stays:
            async with other.subscribe([TOPIC]) as leaves:
                await add_job(storage)
                await notified(leaves, TOPIC)
            await silence(stays)
            await add_job(storage)
            await notified(stays, TOPIC)

    async def test_a_cancelled_wait_loses_no_later_notification(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        async with other.subscribe([TOPIC]) as subscription:
            await silence(subscription)
            for turns in range(5):
                waiting = asyncio.create_task(subscription.wait())
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
            await add_job(storage)
            await notified(subscription, TOPIC)

    async def test_closing_the_storage_ends_the_waiting_with_closed_error(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        async with storage.subscribe([TOPIC]) as subscription, other.subscribe([TOPIC]) as elsewhere:
            await silence(subscription)
            waiting = asyncio.create_task(subscription.wait())
            await asyncio.sleep(0)
            await storage.close()
            async with asyncio.timeout(SAFETY_NET):
                with pytest.raises(ClosedError):
                    await waiting
                with pytest.raises(ClosedError):
                    await subscription.wait()
            # The other object stays open.
            await add_job(other)
            await notified(elsewhere, TOPIC)

    async def test_a_subscription_under_many_notifications_misses_none_for_good(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        # Notifications are coalesced, but after the last change there is one that `wait` has not returned yet.
        total = 40
        seen = 0

        async def count() -> int:
            return (await other.counts("default"))["default"][S.PENDING]

        async with other.subscribe([TOPIC]) as subscription:

            async def listen() -> None:
                nonlocal seen
                async with asyncio.timeout(SAFETY_NET):
                    while (seen := await count()) < total:
                        await subscription.wait()

            await asyncio.gather(listen(), *(storage.add([new_job()]) for _ in range(total)))
        assert seen == total
