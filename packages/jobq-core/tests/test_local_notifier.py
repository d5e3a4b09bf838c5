"""The subscriptions of one storage object: what reaches them, from which threads, and what ends them."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from jobq_core.errors import ClosedError
from jobq_core.local_notifier import LocalNotifier, LocalSubscription

pytestmark = pytest.mark.asyncio

SAFETY_NET: Final = 20.0


class CountingNotifier(LocalNotifier):
    """Counts the waits."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.ended = 0

    def wait_begins(self) -> None:
        self.begun += 1

    def wait_ends(self) -> None:
        self.ended += 1


async def test_a_notification_reaches_the_subscriptions_to_its_topic_alone() -> None:
    notifier = LocalNotifier()
    async with notifier.subscribe(["a", "b"]) as both, notifier.subscribe(["b"]) as one:
        notifier.deliver(["a", "unheard"])
        assert await both.wait(0) == {"a"}
        assert await one.wait(0) == set()
        notifier.deliver(["b", "a"])
        assert await both.wait() == {"a", "b"}
        assert await one.wait() == {"b"}


async def test_topics_are_those_of_the_entered_subscriptions() -> None:
    notifier = LocalNotifier()
    left_out = notifier.subscribe(["c"])
    async with notifier.subscribe(["a", "b"]):
        async with notifier.subscribe(["b"]):
            assert sorted(notifier.topics) == ["a", "b"]
        assert sorted(notifier.topics) == ["a", "b"]
    assert notifier.topics == []
    notifier.leave(left_out)


async def test_a_notification_from_another_thread_wakes_the_waiter() -> None:
    notifier = LocalNotifier()
    async with notifier.subscribe(["a"]) as subscription, asyncio.timeout(SAFETY_NET):
        waiting = asyncio.create_task(subscription.wait())
        await asyncio.sleep(0)
        await asyncio.to_thread(notifier.deliver, ["a"])
        assert await waiting == {"a"}


async def test_a_subscription_left_behind_on_a_closed_event_loop_is_dropped() -> None:
    notifier = LocalNotifier()
    left_behind: list[LocalSubscription] = []

    async def enter() -> None:
        left_behind.append(await notifier.subscribe(["a"]).__aenter__())

    await asyncio.to_thread(asyncio.run, enter())
    async with notifier.subscribe(["a"]) as subscription:
        notifier.deliver(["a"])
        assert await subscription.wait() == {"a"}
    assert notifier.topics == []


async def test_close_ends_the_present_wait_and_refuses_later_ones() -> None:
    notifier = LocalNotifier()
    async with notifier.subscribe(["a"]) as subscription, asyncio.timeout(SAFETY_NET):
        waiting = asyncio.create_task(subscription.wait())
        await asyncio.sleep(0)
        notifier.close()
        for wait in (waiting, subscription.wait()):
            with pytest.raises(ClosedError):
                await wait
    with pytest.raises(ClosedError, match="the storage is closed"):
        await notifier.subscribe(["a"]).__aenter__()


async def test_a_wait_is_announced_only_when_there_is_something_to_wait_for() -> None:
    notifier = CountingNotifier()
    async with notifier.subscribe(["a"]) as subscription:
        notifier.deliver(["a"])
        assert await subscription.wait() == {"a"}
        assert (notifier.begun, notifier.ended) == (0, 0)
        assert await subscription.wait(0) == set()
        assert (notifier.begun, notifier.ended) == (1, 1)
        waiting = asyncio.create_task(subscription.wait())
        await asyncio.sleep(0)
        assert (notifier.begun, notifier.ended) == (2, 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (notifier.begun, notifier.ended) == (2, 2)
