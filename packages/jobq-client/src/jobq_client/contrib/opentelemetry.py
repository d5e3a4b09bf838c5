"""OpenTelemetry: each add is a span, whose context travels with the job."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from opentelemetry import propagate, trace

from jobq_core.adding import AddOptions
from jobq_core.job import Job


def trace_add(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
    """Add a job in a span, and store the span's context in the job's headers: `client.middleware(trace_add)`.

    The span is called "add KIND". A worker with `jobq_worker.contrib.opentelemetry.trace_run` continues its trace.
    """
    kind = job.definition.kind
    attributes = {"messaging.system": "jobq", "messaging.operation.type": "send", "jobq.job.kind": kind}
    tracer = trace.get_tracer("jobq")
    with tracer.start_as_current_span(f"add {kind}", kind=trace.SpanKind.PRODUCER, attributes=attributes) as span:
        headers = dict(options.get("headers") or {})
        propagate.inject(headers)
        options["headers"] = headers
        handle = yield
        span.set_attribute("messaging.message.id", str(handle.id))
        span.set_attribute("messaging.destination.name", handle.queue)
