"""The middleware that ships for OpenTelemetry and Django, and the recipe for Sentry, with these packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from itertools import pairwise
from typing import Any

import pytest
import sentry_sdk
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobq_client import JobQueueClient, SyncJobQueueClient
from jobq_client.contrib.opentelemetry import trace_add
from jobq_core import Job, JobContext, PermanentJobError, Snooze, job
from jobq_core.errors import JobError
from jobq_core.memory import MemoryQueueStorage
from jobq_worker import JobQueueWorker
from jobq_worker.contrib.opentelemetry import trace_run


@job(max_attempts=1)
async def child() -> str:
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


@job(max_attempts=1)
async def parent(context: JobContext) -> str:
    return str(context.add(child()).id)


@job(max_attempts=1)
def fail() -> None:
    raise PermanentJobError("no such order")


@job(max_attempts=1)
def later(context: JobContext) -> None:
    if context.headers.get("snoozed") is None and context.lease == 1:
        raise Snooze(0)


EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def provider() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)


@pytest.fixture
def spans() -> Any:
    """Return a function that returns the spans of a test by their names."""
    EXPORTER.clear()

    def by_name() -> dict[str, ReadableSpan]:
        return {span.name: span for span in EXPORTER.get_finished_spans()}

    return by_name


def of(span: ReadableSpan) -> tuple[int, int]:
    """Return the ids of a span's trace and its own."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


async def test_a_trace_goes_on_from_the_add_to_the_run_and_its_children(spans: Any) -> None:
    async with MemoryQueueStorage() as storage, JobQueueClient(storage) as client:
        client.middleware(trace_add)
        worker = JobQueueWorker(storage, jobs=[parent, child, fail])
        worker.middleware(trace_run)
        with trace.get_tracer("shop").start_as_current_span("request"):
            handle = await client.add(parent())
            failing = await client.add(fail())
        async with worker:
            child_id = await client.wait_for(handle, timeout=30)
            seen = await client.wait_for(child_id, timeout=30)
            with pytest.raises(PermanentJobError):
                await client.wait_for(failing, timeout=30)
    found = spans()
    chain = ["request", "add parent", "run parent", "run child"]
    for before, after in pairwise(chain):
        assert found[after].parent.span_id == of(found[before])[1], after
        assert of(found[after])[0] == of(found["request"])[0]
    assert seen == trace.format_trace_id(of(found["request"])[0])
    added, run, failed = found["add parent"], found["run parent"], found["run fail"]
    assert added.kind is trace.SpanKind.PRODUCER
    assert run.kind is trace.SpanKind.CONSUMER
    assert added.attributes["messaging.message.id"] == run.attributes["messaging.message.id"] == str(handle.id)
    assert run.attributes["jobq.job.attempt"] == 1
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert [event.attributes["exception.message"] for event in failed.events] == ["no such order"]
    assert found["run parent"].status.status_code is trace.StatusCode.UNSET


async def test_a_snooze_is_not_an_error(spans: Any) -> None:
    async with MemoryQueueStorage() as storage, JobQueueClient(storage) as client:
        worker = JobQueueWorker(storage, jobs=[later])
        worker.middleware(trace_run)
        handle = await client.add(later())
        async with worker:
            await client.wait_for(handle, timeout=30)
    runs = [span for span in EXPORTER.get_finished_spans() if span.name == "run later"]
    assert [(span.status.status_code, span.events) for span in runs] == [(trace.StatusCode.UNSET, ())] * 2


def test_the_sync_client_takes_the_span_of_its_thread(spans: Any) -> None:
    with SyncJobQueueClient("memory://") as client:
        client.middleware(trace_add)
        with trace.get_tracer("shop").start_as_current_span("view"):
            handle = client.add(child())
        record = client.get(handle)
    assert record is not None
    found = spans()
    assert found["add child"].parent.span_id == of(found["view"])[1]
    assert record.meta["traceparent"].split("-")[1] == trace.format_trace_id(of(found["view"])[0])


async def test_an_add_that_fails_is_an_error(spans: Any) -> None:
    async with JobQueueClient("memory://") as client:
        client.middleware(trace_add)
        with pytest.raises(ValueError, match="priority"):
            await client.add(child(), priority=1000)
    assert spans()["add child"].status.status_code is trace.StatusCode.ERROR


async def test_the_recipe_for_sentry_reports_the_exception_itself() -> None:
    events: list[dict[str, Any]] = []
    seen: list[BaseException] = []

    def before_send(event: Any, hint: Any) -> Any:
        seen.append(hint["exc_info"][1])
        events.append(event)
        return None  # nothing is sent

    sentry_sdk.init(dsn="https://key@example.org/1", before_send=before_send, default_integrations=False)
    async with MemoryQueueStorage() as storage, JobQueueClient(storage) as client:
        worker = JobQueueWorker(storage, jobs=[fail, child])

        @worker.middleware
        def report(job: Job[Any], context: JobContext) -> Generator[None, Any, None]:
            with sentry_sdk.isolation_scope() as scope:
                scope.set_tag("job.kind", context.kind)
                scope.set_context("job", {"id": str(context.job_id), "attempt": context.attempt})
                try:
                    yield
                except Exception as error:
                    sentry_sdk.capture_exception(error)
                    raise

        failing, fine = await client.add_many([fail(), child()])
        async with worker:
            with pytest.raises(JobError):
                await client.wait_for(failing, timeout=30)
            await client.wait_for(fine, timeout=30)
    sentry_sdk.init()  # without a DSN: off
    [event] = events
    assert isinstance(seen[0], PermanentJobError)
    assert event["tags"]["job.kind"] == "fail"
    assert event["contexts"]["job"]["id"] == str(failing.id)
    assert event["exception"]["values"][0]["value"] == "no such order"


DJANGO = """
import asyncio, threading
import django
from django.conf import settings

settings.configure(DATABASES={"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db", "CONN_MAX_AGE": 0,
}})
django.setup()

from asgiref.sync import sync_to_async
from django.db import connection
from jobq_client import JobQueueClient
from jobq_core import job
from jobq_core.memory import MemoryQueueStorage
from jobq_worker import JobQueueWorker
from jobq_worker.contrib.django import close_old_connections

seen = []

def query():
    seen.append(connection.connection)  # that of the run before, if it was kept
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")

@job
def in_thread() -> None:
    query()

@job
async def on_loop() -> None:
    await sync_to_async(query)()

async def main(with_middleware):
    async with MemoryQueueStorage() as storage, JobQueueClient(storage) as client:
        worker = JobQueueWorker(storage, jobs=[in_thread, on_loop], concurrency=1)
        if with_middleware:
            worker.middleware(close_old_connections)
        async with worker:
            for each in (in_thread(), in_thread(), on_loop(), on_loop()):
                await client.wait_for(await client.add(each), timeout=30)
    print([each is None for each in seen])
    seen.clear()

asyncio.run(main(True))
asyncio.run(main(False))
"""


def test_django_closes_its_connections_around_each_run(tmp_path: Any) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DJANGO], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.stdout.splitlines() == ["[True, True, True, True]", "[True, False, True, False]"], ran.stderr


def test_nothing_imports_these_packages_but_the_modules_for_them() -> None:
    script = "import sys, jobq_client, jobq_worker; print([m for m in ('django', 'opentelemetry') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
