"""The event loop of the sync clients, and its thread."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable

import pytest

from jobq_client.process_portal import ProcessPortal, own_portal
from jobq_core import ConfigurationError


def forked(in_child: Callable[[], bool]) -> bool:
    """Fork, and return what a function returns in the child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons: this process has threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if in_child() else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def test_a_process_has_one_portal_however_many_threads_ask_for_it_first() -> None:
    found: list[ProcessPortal] = []
    barrier = threading.Barrier(8)

    def find() -> None:
        barrier.wait()
        found.append(own_portal())

    def find_in_child() -> bool:
        threads = [threading.Thread(target=find) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(set(found)) == 1 and found[0].pid == os.getpid()

    parents = own_portal()
    assert forked(lambda: find_in_child() and found[0] is not parents)
    assert own_portal() is parents


def test_the_portal_of_the_parent_is_refused_in_a_child_and_not_waited_for() -> None:
    portal = own_portal()

    def use() -> bool:
        portal.post(lambda: None)
        with pytest.raises(ConfigurationError, match="parent process"):
            portal.run(lambda: asyncio.sleep(0))
        return True

    assert forked(use)
    portal.run(lambda: asyncio.sleep(0))


def test_a_fork_waits_for_the_callback_under_way_so_that_a_child_inherits_no_lock_of_it() -> None:
    lock = threading.Lock()
    entered, forking, leave = threading.Event(), threading.Event(), threading.Event()
    os.register_at_fork(before=forking.set)  # called before the portal's own
    free: list[bool] = []

    def hold() -> None:
        with lock:
            entered.set()
            leave.wait()

    own_portal().post(hold)
    assert entered.wait(20)
    thread = threading.Thread(target=lambda: free.append(forked(lambda: lock.acquire(blocking=False))))
    thread.start()
    assert forking.wait(20)
    leave.set()
    thread.join()
    assert free == [True]
    own_portal().run(lambda: asyncio.sleep(0))


def test_a_callback_may_fork() -> None:
    async def fork() -> bool:
        return forked(lambda: True)

    assert own_portal().run(fork)


def test_what_stops_the_loop_is_logged_and_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def stop() -> None:
        raise SystemExit(3)

    portal = own_portal()
    portal.post(stop)
    portal.run(lambda: asyncio.sleep(0))
    assert [record.message for record in caplog.records] == [
        "a callback stopped the event loop of the sync clients; the loop continues"
    ]


def test_calls_in_threads_return_and_raise() -> None:
    async def calls() -> tuple[bool, int]:
        daemon = await asyncio.to_thread(lambda: threading.current_thread().daemon)
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.to_thread(int, "no number")
        return daemon, await asyncio.to_thread(int, "7")

    assert own_portal().run(calls) == (True, 7)
