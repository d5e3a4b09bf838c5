"""The event loop of a handler process: it runs async handlers, and what is async around the others."""

from __future__ import annotations

import asyncio
import threading

from jobq_worker.around.handler_portal import HandlerPortal
from jobq_worker.around.invoke import invoke_coroutine
from jobq_worker.running.outcomes import Raised
from jobq_worker.running.run import Run
from jobq_worker.stacks import all_tasks, all_threads


class ProcessLoop:
    """An event loop in a thread of its own. portal: lets other threads use it."""

    def __init__(self) -> None:
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="jobq-loop", daemon=True)
        self._thread.start()
        self._up.wait()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._leave = asyncio.Event()
        self.portal = HandlerPortal()
        self._up.set()
        await self._leave.wait()

    def run(self, run: Run) -> None:
        """Run an async handler; returns when it has ended, with `run.outcome` set."""
        ended = threading.Event()
        self._loop.call_soon_threadsafe(self._start, run, ended)
        ended.wait()

    def _start(self, run: Run, ended: threading.Event) -> None:
        def end(_task: asyncio.Task[None]) -> None:
            if run.outcome is None:  # it was cancelled before its first step
                run.outcome = Raised(asyncio.CancelledError(), told=True)
            ended.set()

        task = run.task = self._loop.create_task(invoke_coroutine(run, lambda _: None))
        task.add_done_callback(end)
        if run.stop is not None:
            task.cancel()

    def describe(self, reader: int) -> str:
        """Return the stacks of the process's threads, but the one that reads messages, and of the loop's tasks."""
        own = self._thread.ident or 0
        parts = [f"thread {name}\n{stack}" for name, stack in all_threads(but=(reader, own))]
        parts += [f"task {name}\n{stack}" for name, stack in all_tasks(self._loop, own, but=self._main)]
        return "\n".join(parts)

    def cancel(self, run: Run) -> None:
        """Cancel the handler of a run, if it goes on."""
        self._loop.call_soon_threadsafe(lambda: None if run.task is None else run.task.cancel())

    def close(self) -> None:
        """End the loop, and wait for that."""
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()
