"""`run_in_thread`: a call that the event loop waits for, in a thread that does not keep the process alive."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_in_thread(name: str, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Call a function in a thread of its own of this name, in a copy of the context; return its result.

    Raises what the function raises, whatever it is. If this is cancelled, the thread goes on.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    context = contextvars.copy_context()
    results: list[T] = []
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            results.append(context.run(function, *arguments))
        except BaseException as error:  # noqa: BLE001  (raised in the coroutine)
            errors.append(error)
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=serve, name=name, daemon=True).start()
    await done.wait()
    for error in errors:
        raise error
    return results[0]
