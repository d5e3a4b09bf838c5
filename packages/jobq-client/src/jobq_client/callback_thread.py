"""`call_later`: calls the callbacks of sync clients, in the order of their events, in one thread of this process.

The portal's event loop does not call them: a callback may block, and may use the client.
"""

from __future__ import annotations

import contextvars
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

logger = logging.getLogger("jobq.client")

Call: TypeAlias = "tuple[contextvars.Context, Callable[..., object], Any]"

_queues: Final[dict[int, queue.Queue[Call]]] = {}
"""The queue of each process, by its id: a forked child inherits the queue of its parent, but not the thread.

Not a SimpleQueue, which eventlet does not replace: it would stop all green threads.
"""


def in_callback_thread(callback: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return a function that has the thread call `callback` with its argument, in the present context."""
    context = contextvars.copy_context()

    def call_later(argument: Any) -> None:
        _own_queue().put((context, callback, argument))

    return call_later


def _own_queue() -> queue.Queue[Call]:
    pid = os.getpid()
    calls = _queues.get(pid)
    if calls is None:
        made: queue.Queue[Call] = queue.Queue()
        calls = _queues.setdefault(pid, made)
        if calls is made:
            threading.Thread(target=_serve, args=[calls], name="jobq callbacks", daemon=True).start()
    return calls


def _serve(calls: queue.Queue[Call]) -> None:
    while True:
        context, callback, argument = calls.get()
        try:
            context.run(callback, argument)
        except BaseException:
            logger.exception("a callback failed")
        del context, callback, argument  # not kept until the next call
