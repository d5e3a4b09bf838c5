"""`LogKeeper`: keeps what handlers log with their jobs, for a worker with `keep_logs`.

A handler of the root logger takes the records that are made while a handler of a job runs, by the context variable
behind `current_job`. A loop stores their lines at once, and then once a second while lines come; the last ones are
stored before the run is settled, so that a client that waited for its end finds them.

Nothing here holds a handler up or fails it. Lines that cannot be stored are tried again until their run ends, and then
dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

from jobq_core.clock_offset import ClockOffset
from jobq_core.current import running
from jobq_core.storage import LogPart, LogStorage
from jobq_worker.loops import UNTIL_WOKEN, Loop
from jobq_worker.outages import Outages
from jobq_worker.running.run import Run
from jobq_worker.running.run_log import OVERHEAD_BYTES, RunLog, to_line

logger = logging.getLogger("jobq.worker")

WRITE_SECONDS: Final = 1.0
"""Minimum interval between two writes while handlers run."""
RETRY_SECONDS: Final = 5.0
"""Time after a write that failed until the next."""
END_SECONDS: Final = 2.0
"""Time that a write may take, in which the settlement of runs waits for it."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""About the maximum size of the lines of one call."""


class LogKeeper:
    """Made on the event loop; records come from any thread.

    level: of the records to keep, and above. runs: the running ones of this worker. batches: the kinds of its batch
    handlers, whose lines are not kept: they belong to several jobs, and each would have a copy of all of them.
    """

    def __init__(
        self,
        level: int,
        storage: LogStorage,
        runs: Collection[Run],
        clock: ClockOffset,
        outages: Outages,
        batches: Collection[str],
    ) -> None:
        self._storage = storage
        self._runs = runs
        self._clock = clock
        self._logs: dict[Run, RunLog] = {}
        self._level = level
        self._batches = batches
        self._handlers: list[logging.Handler] = [_Capture(level, self._keep)]
        self._fails = False
        self.dropped = 0
        """The number of lines that could not be stored."""
        self.loop = Loop("logs", self._work, outages)

    def open(self) -> None:
        """Keep the records that are made from now on."""
        root = logging.getLogger()
        if not root.handlers and logging.lastResort is not None:
            # A program that has not set up its logging sees its warnings still: they go there for want of any handler.
            self._handlers.append(logging.lastResort)
        for handler in self._handlers:
            root.addHandler(handler)
        if root.level > self._level:
            logger.warning(
                "keep_logs is %s, but the root logger lets only %s and above through; lower its level, as with "
                "logging.getLogger().setLevel(%r)",
                *map(logging.getLevelName, (self._level, root.level, self._level)),
            )
        if self._batches:
            logger.info("keep_logs does not keep what batch handlers log: %s", ", ".join(sorted(self._batches)))

    async def close(self) -> None:
        """Keep no more records, and store what is left."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
        await self._write_last(list(self._logs))

    # In the thread of a handler

    def _keep(self, run: Run, record: logging.LogRecord) -> None:
        if run.over or run not in self._runs:
            return  # it has ended, or is another worker's
        log = self._logs.get(run)
        if log is None:
            log = self._logs.setdefault(run, RunLog())
        log.add(to_line(record, self._clock.measured.read().offset))
        self.loop.wake_from_thread()

    # On the event loop

    async def finish(self, runs: Iterable[Run]) -> None:
        """Store the last lines of runs that have ended, before they are settled."""
        if self._logs:
            await self._write_last([run for run in runs if run in self._logs])

    async def _write_last(self, runs: Sequence[Run]) -> None:
        ended = [(run, self._logs.pop(run)) for run in runs]
        for run, log in ended:
            log.make_part(run, last=True)
        if not await self._write([log for _, log in ended]):
            self.dropped += sum(len(part.lines) for _, log in ended for part in log.unsent)

    async def _work(self, woken: bool) -> float:
        # Also those of runs that are not settled, for their lease was lost.
        await self._write_last([run for run in list(self._logs) if run.over])
        logs = list(self._logs.items())
        if not logs:
            return UNTIL_WOKEN  # the next line is stored at once
        for run, log in logs:
            log.make_part(run, last=False)
        stored = await self._write([log for _, log in logs])
        await asyncio.sleep(WRITE_SECONDS if stored else RETRY_SECONDS)
        return UNTIL_WOKEN if stored else 0.0

    async def _write(self, logs: Sequence[RunLog]) -> bool:
        """Store the parts of these runs that are not stored; return whether that succeeded."""
        parts = [(log, part) for log in logs for part in log.unsent]
        try:
            async with asyncio.timeout(END_SECONDS):
                for batch in _batches(parts):
                    await self._storage.write_logs([part for _, part in batch])
                    for log, part in batch:
                        _remove(log.unsent, part)
        except Exception as error:  # noqa: BLE001  (whatever a storage raises: the runs go on)
            self._record_failure(error)
            return False
        if parts and self._fails:
            self._fails = False
            logger.warning("the logs of handlers can be stored again; %d lines were dropped so far", self.dropped)
        return True

    def _record_failure(self, error: Exception) -> None:
        if self._fails:
            return
        self._fails = True
        said = f"no answer within {END_SECONDS:g} s" if isinstance(error, TimeoutError) else error
        logger.warning(
            "the logs of handlers cannot be stored, and are dropped when their runs end: %s: %s",
            type(error).__name__,
            said,
        )


class _Capture(logging.Handler):
    """Passes on the records that are made while a handler of a job runs in this process."""

    def __init__(self, level: int, keep: Callable[[Run, logging.LogRecord], None]) -> None:
        super().__init__(level)
        self._keep = keep
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        run = running.get()
        if not isinstance(run, Run) or os.getpid() != self._pid:  # a child that a handler forked has no event loop
            return
        try:
            self._keep(run, record)
        except Exception:  # noqa: BLE001  (as every handler does)
            self.handleError(record)


def _batches(parts: Iterable[tuple[RunLog, LogPart]]) -> Iterator[list[tuple[RunLog, LogPart]]]:
    """Divide parts into batches of BATCH_BYTES, or a little more."""
    batch: list[tuple[RunLog, LogPart]] = []
    size = 0
    for log, part in parts:
        batch.append((log, part))
        size += sum(len(line.message) + OVERHEAD_BYTES for line in part.lines)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _remove(parts: deque[LogPart], part: LogPart) -> None:
    """Take out a part that was stored, unless a simultaneous write did."""
    with contextlib.suppress(ValueError):
        parts.remove(part)
