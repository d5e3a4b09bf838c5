"""Stacks of threads and tasks as text: where code is, without the values of its variables.

All functions may be called in any thread, also while the event loop is blocked.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Collection
from traceback import FrameSummary, StackSummary, walk_stack
from types import FrameType
from typing import Any, Final

MAX_FRAMES: Final = 100
"""Maximum number of frames of a stack: the innermost ones."""


def format_frame(frame: FrameType | None, limit: int = MAX_FRAMES) -> str:
    """Return the stack that leads to a frame that runs, the innermost `limit` frames."""
    if frame is None:
        return "  (its thread has ended)\n"
    summary = StackSummary.extract(walk_stack(frame), limit=limit)
    summary.reverse()
    return "".join(summary.format())


def thread_stack(thread: int, limit: int = MAX_FRAMES) -> str:
    """Return the stack of a thread, by its identifier."""
    return format_frame(sys._current_frames().get(thread), limit)


def find_thread(runs_here: Callable[[FrameType], bool]) -> int | None:
    """Return the thread that has a frame for which `runs_here` holds; None without any."""
    for thread, innermost in sys._current_frames().items():
        frame: FrameType | None = innermost
        while frame is not None:
            if runs_here(frame):
                return thread
            frame = frame.f_back
    return None


def task_stack(task: asyncio.Task[Any], thread: int) -> str:
    """Return where a task waits: its coroutine, what that awaits, and so on; or the stack of its event loop's `thread`
    if the task runs at this moment.

    An async generator that is awaited in the chain ends it: Python does not say what that waits for.
    """
    awaited: Any = task.get_coro()
    if getattr(awaited, "cr_running", False):
        return thread_stack(thread)
    frames: list[FrameSummary] = []
    while awaited is not None:
        frame = _attribute(awaited, "frame")
        if frame is None:
            break
        frames.append(FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        awaited = _attribute(awaited, "await") or getattr(awaited, "gi_yieldfrom", None)
    if not frames:
        return "  (the task has ended)\n"
    return "".join(StackSummary.from_list(frames[-MAX_FRAMES:]).format())


def _attribute(awaited: object, name: str) -> Any:
    """Return `cr_frame`, `gi_frame` or `ag_frame`, whichever an awaited object has."""
    return next((found for kind in ("cr", "gi", "ag") if (found := getattr(awaited, f"{kind}_{name}", None))), None)


def all_threads(but: Collection[int] = ()) -> list[tuple[str, str]]:
    """Return the name and the stack of each other thread of the process. but: identifiers of threads to leave out."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    return [
        (names.get(thread, f"thread {thread}"), format_frame(frame))
        for thread, frame in sys._current_frames().items()
        if thread != own and thread not in but
    ]


def all_tasks(
    loop: asyncio.AbstractEventLoop, thread: int, but: asyncio.Task[Any] | None = None
) -> list[tuple[str, str]]:
    """Return the name and the stack of each task of an event loop that runs in `thread`. but: a task to leave out."""
    tasks = sorted((task for task in asyncio.all_tasks(loop) if task is not but), key=lambda task: task.get_name())
    return [(task.get_name(), task_stack(task, thread)) for task in tasks]
