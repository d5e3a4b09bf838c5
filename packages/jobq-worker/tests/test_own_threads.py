"""A call in a thread of its own: it has the caller's context, and its errors are the caller's."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from jobq_worker.own_threads import run_in_thread

from .kit import until

name: contextvars.ContextVar[str] = contextvars.ContextVar("name")


async def test_a_call_runs_in_a_daemon_thread_of_its_own_with_the_callers_context() -> None:
    def look(greeting: str) -> tuple[str, str, bool]:
        thread = threading.current_thread()
        return f"{greeting} {name.get()}", thread.name, thread.daemon

    name.set("ann")
    assert await run_in_thread("of its own", look, "hello") == ("hello ann", "of its own", True)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
async def test_whatever_a_call_raises_is_raised(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("why")

    with pytest.raises(error, match="why"):
        await run_in_thread("fails", fail)


def test_a_call_that_outlives_the_event_loop_ends_quietly() -> None:
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def wait() -> None:
        threads.append(threading.current_thread())
        go_on.wait(30)

    async def leave() -> None:
        waiting = asyncio.ensure_future(run_in_thread("waits", wait))
        await until(lambda: bool(threads))
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    asyncio.run(leave())
    go_on.set()
    threads[0].join(30)
    assert not threads[0].is_alive()
