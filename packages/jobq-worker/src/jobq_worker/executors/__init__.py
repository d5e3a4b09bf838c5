"""Where handlers run: coroutines on the event loop, plain functions in threads, and either in processes."""

from __future__ import annotations

from typing import Final

from jobq_core.clock_offset import ClockOffset
from jobq_core.records import WorkerInfo
from jobq_worker.executors.coroutines import CoroutineExecutor
from jobq_worker.executors.processes import ProcessExecutor
from jobq_worker.executors.threads import ThreadExecutor
from jobq_worker.options import WorkerOptions
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.progress import Reporter
from jobq_worker.running.run import Executor

EXECUTORS: Final[tuple[type[Executor], ...]] = (CoroutineExecutor, ThreadExecutor, ProcessExecutor)
"""Every executor; `name` is how `@job(executor=…)` names it."""


def make_executors(
    pipeline: Pipeline, reporter: Reporter, clock_offset: ClockOffset, info: WorkerInfo, options: WorkerOptions
) -> tuple[Executor, ...]:
    """Return one of each executor."""
    return (
        CoroutineExecutor(pipeline.end),
        ThreadExecutor(pipeline.end),
        ProcessExecutor(
            pipeline.end, pipeline.begun, pipeline.awaiting_process, reporter.report, clock_offset, info.id, options
        ),
    )
