"""`drain`: runs the due jobs of a client's memory storage in the test's own process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobq_core.errors import ConfigurationError
from jobq_core.registry import Jobs
from jobq_core.testing.drained import Drained
from jobq_core.testing.without_loop import HasStorage, memory_of

if TYPE_CHECKING:
    from jobq_worker.inline_worker import InlineWorker


async def drain(
    client: HasStorage,
    *,
    jobs: Jobs | None = None,
    worker: Any = None,
    queues: Sequence[str] | None = None,
    advance: bool = False,
    raises: bool = True,
    max_runs: int = 1000,
) -> Drained:
    """Run all due jobs, one at a time, until nothing is due; jobs that these jobs add too. Returns what ran.

    Each run is settled as a worker settles it: retries are scheduled, results stored, and jobs past their deadline
    fail. The queues take turns. Async handlers run on the present event loop, and their `timeout` is kept; sync
    handlers run in a thread, as in a worker. Needs the distribution jobq-worker.

    client: a running client on memory storage, or the storage.
    jobs: the jobs that can be run (default: all that this process has declared). Other jobs are BLOCKED, as by a worker
        that does not know them.
    worker: the JobQueueWorker whose jobs, handlers, middleware, lifespans and resources are used, instead of `jobs`. It
        is not started, and its storage not opened.
    queues: default is every queue.
    advance: whether to move the clock of a ManualClockStorage forward to the next due job, until no job waits for a
        time: all retries run at once (default False).
    raises: whether to raise, once nothing is due, what the first failed run raised (default True). Otherwise look at
        `Drained.errors`.
    max_runs: raises AssertionError after so many runs: some job adds itself again and again.

    Raises ConfigurationError for a job whose kind no imported module declares, and without jobq-worker.
    """
    inline = _inline_worker(client, jobs, worker, queues, max_runs)
    async with inline:
        while await inline.run_next() or (advance and inline.advance()):
            pass
    return _ended(inline, raises)


def drain_sync(
    client: HasStorage,
    *,
    jobs: Jobs | None = None,
    worker: Any = None,
    queues: Sequence[str] | None = None,
    advance: bool = False,
    raises: bool = True,
    max_runs: int = 1000,
) -> Drained:
    """Run all due jobs as `drain` does, in a test without an event loop.

    Sync handlers run in this thread, without an event loop: under Django's TestCase they see what the test wrote. Async
    handlers run on an event loop that lives as long as the call.
    """
    inline = _inline_worker(client, jobs, worker, queues, max_runs)
    with inline.in_this_thread() as loop:
        while inline.run_next_sync(loop) or (advance and inline.advance()):
            pass
    return _ended(inline, raises)


def _inline_worker(
    client: HasStorage, jobs: Jobs | None, worker: Any, queues: Sequence[str] | None, max_runs: int
) -> InlineWorker:
    storage = memory_of(client)
    try:
        from jobq_worker.inline_worker import InlineWorker
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("jobq_worker"):
            raise
        raise ConfigurationError(
            "draining runs jobs as a worker does, and the distribution jobq-worker is not installed: "
            "pip install jobq-worker"
        ) from error
    return InlineWorker(storage, jobs=jobs, worker=worker, queues=queues, max_runs=max_runs)


def _ended(inline: InlineWorker, raises: bool) -> Drained:
    drained = inline.drained
    if raises:
        drained.raise_first()
    return drained
