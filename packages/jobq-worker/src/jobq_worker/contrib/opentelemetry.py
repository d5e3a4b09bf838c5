"""OpenTelemetry: each run of a handler is a span, in the trace of what added its job."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from opentelemetry import propagate, trace

from jobq_core.context import JobContext
from jobq_core.errors import Snooze
from jobq_core.job import Job


def trace_run(job: Job[Any], context: JobContext) -> Generator[None, Any, None]:
    """Run a handler in a span, whose parent is in the job's headers: `worker.middleware(trace_run)`.

    The span is called "run KIND". An exception is recorded with it and makes its status ERROR; `Snooze` does not. The
    jobs that the handler adds have this span as their parent.
    """
    attributes: dict[str, str | int] = {
        "messaging.system": "jobq",
        "messaging.operation.type": "process",
        "messaging.message.id": str(context.job_id),
        "messaging.destination.name": context.queue,
        "jobq.job.kind": context.kind,
        "jobq.job.attempt": context.attempt,
    }
    with trace.get_tracer("jobq").start_as_current_span(
        f"run {context.kind}",
        context=propagate.extract(context.headers),
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        headers = dict(context.headers)
        propagate.inject(headers)
        context.headers = headers
        try:
            yield
        except Snooze:
            raise
        except BaseException as error:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
