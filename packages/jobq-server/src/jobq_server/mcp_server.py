"""`jobq mcp`: what goes on in the queues, for assistants that speak the Model Context Protocol. It reads, and changes
nothing."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from jobq_core.activity import read_activity
from jobq_core.doctor import examine
from jobq_core.encoding import decode_or_show
from jobq_core.errors import ConfigurationError, JobQueueError
from jobq_core.failures import failures
from jobq_core.family import children_of
from jobq_core.job_audit import audit_of
from jobq_core.records import JobRecord, JobSummary
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, QueueStorage
from jobq_core.why import why as find_reason

MAX_JOBS: Final = 100
"""The most jobs of one answer."""
MAX_PAYLOAD: Final = 16 * 1024
"""The most bytes of arguments, or of a result, in an answer."""
PAYLOADS: Final = frozenset({"arguments_json", "result_json", "meta_json"})
Tool: TypeAlias = Callable[..., Awaitable[dict[str, Any]]]
INSTRUCTIONS: Final = """Look at the jobs of a job queue, and find out why they wait or fail. Start with `doctor` and
`list_queues`; `why` explains one job. Nothing can be changed here: name the `jobq` command that would."""


def make_mcp_server(storage: QueueStorage, *, show_payloads: bool = False) -> MCPServer:
    """Return a server of read-only tools over a storage, which it opens and closes, and whose tables it never creates.

    show_payloads: whether arguments, results, headers and progress details of jobs are in the answers (default False).
    """

    storage.keep_schema()
    opening = asyncio.Lock()
    sessions = 0

    @asynccontextmanager
    async def closed_at_the_end(_: MCPServer) -> AsyncGenerator[None]:
        nonlocal sessions
        sessions += 1
        try:
            yield
        finally:
            sessions -= 1
            if not sessions:  # the call of another one may be under way
                await storage.close()

    server: MCPServer = MCPServer("jobq", instructions=INSTRUCTIONS, lifespan=closed_at_the_end)

    def tool(function: Tool) -> Tool:
        """Add a tool of this name, whose errors the assistant is told."""

        @functools.wraps(function)
        async def told(**arguments: Any) -> dict[str, Any]:
            try:
                async with opening:  # with each call: the database may be away at first, or the last session have ended
                    await storage.open()
                return await function(**arguments)
            except JobQueueError as error:
                raise ToolError(str(error)) from error

        return server.tool()(told)

    @tool
    async def list_queues() -> dict[str, Any]:
        """List the queues: their jobs by state, the oldest waiting job, whether they are paused, and the last hour."""
        depths, options = await storage.depths(), await storage.queues()
        activity = await read_activity(storage)
        names = sorted({*(depth.queue for depth in depths), *(record.name for record in options), *activity})
        return {
            name: plain(
                {
                    "depths": [depth for depth in depths if depth.queue == name],
                    "options": next((record for record in options if record.name == name), None),
                    "last_hour": [point for point in activity.get(name, []) if _happened(point)],
                }
            )
            for name in names
        }

    @tool
    async def list_jobs(
        state: str | None = None,
        queue: str | None = None,
        kind: str | None = None,
        tag: str | None = None,
        error: str | None = None,
        parent: str | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> dict[str, Any]:
        """List jobs, newest first, that match all that is given. error: text in the message of the last error. parent:
        the id of the job that added them. after: `next` of the page before. limit: at most 100."""
        wanted = JobFilter(
            queue=queue,
            states=[] if state is None else [_state(state)],
            kinds=[] if kind is None else [kind],
            tags=[] if tag is None else [tag],
            error=error,
            parent=None if parent is None else _id(parent),
        )
        page = await storage.find(
            wanted, after=None if after is None else _id(after), limit=max(1, min(limit, MAX_JOBS))
        )
        return {"jobs": [_job(job, show_payloads) for job in page.jobs], "next": plain(page.cursor)}

    @tool
    async def show_job(id: str) -> dict[str, Any]:
        """Show one job: its options, its attempts with their tracebacks, why it is in its state, its audit, the job
        that added it, and those that it added.
        """
        job_id = _id(id)
        (record,) = await storage.get([job_id])
        if record is None:
            return plain(await find_reason(storage, job_id))  # type: ignore[no-any-return]
        reason, audit = await find_reason(storage, job_id), await audit_of(storage, record)
        children = [
            {"id": job.id, "kind": job.kind, "state": job.state} for job in (await children_of(storage, record)).jobs
        ]
        family = {"parent": record.parent, "children": children}
        return {**_job(record, show_payloads), **plain(family), "why": plain(reason), "audit": plain(audit)}

    @tool
    async def why(id: str) -> dict[str, Any]:
        """Explain why a job does not run, or how it ended."""
        return plain(await find_reason(storage, _id(id)))  # type: ignore[no-any-return]

    @tool
    async def list_failures(queue: str | None = None) -> dict[str, Any]:
        """Group the newest 1,000 failed jobs by kind and error, the largest group first."""
        return {"groups": plain(await failures(storage, queue=queue))}

    @tool
    async def list_workers() -> dict[str, Any]:
        """List the workers of all machines, with what they did and their last heartbeat."""
        now = await storage.now()
        workers = await storage.workers()
        return {"workers": [{**plain(worker), "alive": worker.is_alive(now)} for worker in workers]}

    @tool
    async def doctor() -> dict[str, Any]:
        """Say what is wrong with the queue, its workers and its database, and the command that cures it."""
        return {"findings": plain(await examine(storage))}

    return server


def plain(value: Any) -> Any:
    """Return Structs and their parts as what JSON has."""
    return msgspec.to_builtins(value, str_keys=True)


def _job(job: JobSummary, show_payloads: bool) -> dict[str, Any]:
    shown = {name: getattr(job, name) for name in job.__struct_fields__ if name not in PAYLOADS}
    shown["progress"] = job.progress if show_payloads else {"percent": job.progress.percent}
    if show_payloads and isinstance(job, JobRecord):
        payloads = {"arguments": job.shown_arguments, "result": job.result_json, "headers": job.shown_headers}
        shown |= {name: _payload(data) for name, data in payloads.items() if data is not None}
    return {name: plain(value) for name, value in shown.items() if value not in (None, (), False)}


def _payload(data: bytes) -> Any:
    """Return a payload; a large one as the beginning of its text, which fits into what an assistant can read."""
    if len(data) <= MAX_PAYLOAD:
        return decode_or_show(data)
    return f"{data[:MAX_PAYLOAD].decode('utf-8', 'ignore')}… ({len(data)} bytes)"


def _happened(point: Any) -> bool:
    return any((point.added, point.completed, point.failed, point.aborted, point.pending))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError(f"{short_repr(text)} is not a job's id") from None


def _state(text: str) -> JobState:
    try:
        return JobState(text.lower())
    except ValueError:
        raise ConfigurationError(f"unknown state {short_repr(text)}; expected one of {', '.join(JobState)}") from None
