"""`ProcessPortal`: one event loop in a thread of this process, on which sync clients run what the async client does.

A process has one portal, which is made at its first use and ends with the process. A forked child makes its own: it
inherits the event loop of its parent, but not the thread. The parent's portal is kept there untouched, since closing or
collecting it could disturb the parent's connections. The loop pauses during a fork, so that the child inherits no lock
that a callback holds.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from jobq_core.caller_thread import CallerThread, caller_thread
from jobq_core.errors import ConfigurationError

logger = logging.getLogger("jobq.client")

T = TypeVar("T")
P = ParamSpec("P")

_portals: Final[dict[int, ProcessPortal]] = {}
"""The portals of this process and of those that it was forked from, by process id."""

PAUSE_SECONDS: Final = 1.0
"""Maximum time, in seconds, that a fork waits until the loop pauses."""


class DaemonThreads(ThreadPoolExecutor):
    """Makes each call in a thread of its own, which the interpreter does not wait for when it exits.

    Those of a ThreadPoolExecutor are joined at exit, in a child of uWSGI too, which inherits the list of them but not
    the threads.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the future of a call."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  (of the caller)
                future.set_exception(error)

        threading.Thread(target=run, name="jobq call", daemon=True).start()
        return future


class ProcessPortal:
    """An event loop, and the thread that runs it. All methods may be called from any thread but this one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # Not the loop of the policy, which may be one that the application chose for itself.
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_default_executor(DaemonThreads())
        self._thread = threading.Thread(target=self._serve, name="jobq portal", daemon=True)

    def start(self) -> None:
        """Start the thread. What was sent to the loop before runs then."""
        self._thread.start()

    def discard(self) -> None:
        """Close the loop of a portal that was not started."""
        self._loop.close()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]], *, lend_thread: bool = False) -> T:
        """Run a coroutine on the loop, in a copy of the caller's context, and return what it returns.

        lend_thread: whether `call_in_caller` makes its calls in this thread. An exception that ends the wait, such as
        KeyboardInterrupt, cancels the coroutine. Raises ConfigurationError on a running event loop, and in a child that
        was forked since.
        """
        if self.pid != os.getpid():
            raise ConfigurationError("this belongs to the parent process of a fork; nothing was sent")
        self.check_thread()
        caller = CallerThread() if lend_thread else None
        context = contextvars.copy_context()
        context.run(caller_thread.set, caller)
        future = context.run(asyncio.run_coroutine_threadsafe, make(), self._loop)
        try:
            return future.result() if caller is None else caller.wait(future)
        finally:
            future.cancel()  # does nothing to one that is done
            del future  # its exception refers to this frame

    def post(self, call: Callable[[], object]) -> None:
        """Have the loop call a function, and do not wait for it. Does nothing in a child that was forked since."""
        if self.pid == os.getpid():
            self._loop.call_soon_threadsafe(call)

    def pause(self) -> Callable[[], None]:
        """Pause the loop between two callbacks, and return the function that lets it go on."""
        paused, resumed = threading.Event(), threading.Event()

        def wait() -> None:
            paused.set()
            resumed.wait()

        self._loop.call_soon_threadsafe(wait)
        paused.wait(PAUSE_SECONDS)
        return resumed.set

    def create_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task. Called on the loop."""
        return self._loop.create_task(coroutine)

    def is_own_thread(self) -> bool:
        """Return whether the portal's thread calls this."""
        return threading.get_ident() == self._thread.ident

    def check_thread(self) -> None:
        """Raise ConfigurationError on a running event loop, which the caller would block.

        Under gevent and eventlet the portal's thread is a greenlet, and its loop seems to run in all of them.
        """
        loop = asyncio._get_running_loop()
        if loop is None or (loop is self._loop and not self.is_own_thread()):
            return
        raise ConfigurationError(
            "SyncJobQueueClient is used on a running event loop, which the call would block; nothing was sent. "
            "Use JobQueueClient there, and await its methods"
        )

    def _serve(self) -> None:
        while True:
            try:
                self._loop.run_forever()
            except BaseException:
                logger.exception("a callback stopped the event loop of the sync clients; the loop continues")


def own_portal() -> ProcessPortal:
    """Return the portal of this process. No lock is taken, since a forked child could inherit it locked."""
    pid = os.getpid()
    portal = _portals.get(pid)
    if portal is None:
        made = ProcessPortal()
        portal = _portals.setdefault(pid, made)
        if portal is made:
            portal.start()
        else:
            made.discard()
    return portal


_resume: Final[dict[int, Callable[[], None]]] = {}
"""What lets the loop go on after a fork, by the thread that forks."""


def _before_fork() -> None:
    portal = _portals.get(os.getpid())
    if portal is not None and not portal.is_own_thread():
        _resume[threading.get_ident()] = portal.pause()


def _after_fork() -> None:
    resume = _resume.pop(threading.get_ident(), None)
    if resume is not None:
        resume()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_resume.clear)
