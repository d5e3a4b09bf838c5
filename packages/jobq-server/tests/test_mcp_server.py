"""What an assistant can read, through the protocol's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from mcp import Client

from jobq_core.errors import StorageUnavailableError
from jobq_core.memory import MemoryQueueStorage
from jobq_core.memory.storage import forget
from jobq_core.parents import with_parent
from jobq_core.records import ErrorRecord
from jobq_core.states import Ending
from jobq_core.storage import QueueRecord, QueueStorage
from jobq_core.testing.helpers import add_job, claim_one, register_worker, settle
from jobq_server.mcp_server import make_mcp_server

ERROR = ErrorRecord(type="LookupError", message="no order 7", traceback="Traceback …")


@pytest.fixture
async def storage() -> AsyncIterator[QueueStorage]:
    """A storage with a failed job and a pending one in a queue that no worker serves."""
    name = uuid4().hex
    async with MemoryQueueStorage(name) as storage:
        worker = await register_worker(storage)
        await add_job(storage, arguments=b'{"order_id":7}')
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        await add_job(storage, queue="mail")
        yield storage
    forget(name)


async def call(storage: QueueStorage, tool: str, *, show_payloads: bool = False, **arguments: Any) -> Any:
    server = make_mcp_server(MemoryQueueStorage(storage.url.removeprefix("memory://")), show_payloads=show_payloads)
    async with Client(server) as client:
        answer = await client.call_tool(tool, arguments)
    [content] = answer.content
    assert not answer.is_error, content
    return json.loads(content.text)  # type: ignore[union-attr]


async def test_every_tool_is_described_and_none_takes_an_action() -> None:
    async with Client(make_mcp_server(MemoryQueueStorage())) as client:
        tools = (await client.list_tools()).tools
    assert {tool.name for tool in tools} == {
        "doctor",
        "list_failures",
        "list_jobs",
        "list_queues",
        "list_workers",
        "show_job",
        "why",
    }
    assert all(tool.description for tool in tools)


async def test_no_tables_are_created(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[QueueStorage] = []
    monkeypatch.setattr(MemoryQueueStorage, "keep_schema", lambda self: kept.append(self))
    storage = MemoryQueueStorage()
    make_mcp_server(storage)
    assert kept == [storage]


async def test_queues_workers_failures_and_findings_are_listed(storage: QueueStorage) -> None:
    queues = await call(storage, "list_queues")
    assert {depth["state"] for depth in queues["mail"]["depths"]} == {"pending"}
    assert (await call(storage, "list_workers"))["workers"][0]["alive"] is True
    assert (await call(storage, "list_failures"))["groups"][0]["message"] == "no order 7"
    assert [finding["code"] for finding in (await call(storage, "doctor"))["findings"]] == ["no-worker"]


async def test_jobs_are_listed_shown_and_explained_without_their_payloads(storage: QueueStorage) -> None:
    [failed] = (await call(storage, "list_jobs", state="FAILED"))["jobs"]
    shown = await call(storage, "show_job", id=failed["id"])
    assert shown["attempts"][0]["error"]["type"] == "LookupError"
    assert shown["why"]["code"] == "permanent-error"
    assert "order_id" not in json.dumps(shown)
    [pending] = (await call(storage, "list_jobs", queue="mail"))["jobs"]
    assert (await call(storage, "why", id=pending["id"]))["code"] == "queue-not-served"


async def test_a_job_is_shown_with_its_parent_and_its_children(storage: QueueStorage) -> None:
    [parent] = (await call(storage, "list_jobs", state="failed"))["jobs"]
    child = await add_job(storage, kind="alert", meta=with_parent(None, UUID(parent["id"])))
    shown = await call(storage, "show_job", id=parent["id"])
    assert (shown["parent"], shown["children"]) == (None, [{"id": str(child), "kind": "alert", "state": "pending"}])
    shown = await call(storage, "show_job", id=str(child))
    assert (shown["parent"], shown["children"]) == (parent["id"], [])
    assert [job["id"] for job in (await call(storage, "list_jobs", parent=parent["id"]))["jobs"]] == [str(child)]


async def test_payloads_are_shown_when_told(storage: QueueStorage) -> None:
    [failed] = (await call(storage, "list_jobs", state="failed"))["jobs"]
    assert (await call(storage, "show_job", show_payloads=True, id=failed["id"]))["arguments"] == {"order_id": 7}


async def test_pages_follow_each_other(storage: QueueStorage) -> None:
    first = await call(storage, "list_jobs", limit=1)
    second = await call(storage, "list_jobs", limit=1, after=first["next"])
    assert second["next"] is None
    assert first["jobs"] != second["jobs"]


async def test_what_cannot_be_asked_is_an_error_and_a_job_that_is_gone_is_said(storage: QueueStorage) -> None:
    async with Client(make_mcp_server(MemoryQueueStorage())) as client:
        assert (await client.call_tool("why", {})).is_error
        answer = await client.call_tool("list_jobs", {"state": "lost"})
        assert answer.is_error
        assert "unknown state 'lost'; expected one of" in str(answer.content[0])
    assert (await call(storage, "show_job", id=str(uuid4())))["code"] == "not-found"


async def test_a_database_that_is_away_is_said_and_asked_again(
    storage: QueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = MemoryQueueStorage(storage.url.removeprefix("memory://"))

    async def fail() -> None:
        raise StorageUnavailableError("PostgreSQL cannot be reached")

    monkeypatch.setattr(away, "open", fail)
    async with Client(make_mcp_server(away)) as client:
        answer = await client.call_tool("list_queues", {})
        assert answer.is_error
        assert "PostgreSQL cannot be reached" in str(answer.content[0])
        monkeypatch.undo()
        assert not (await client.call_tool("list_queues", {})).is_error


async def test_the_end_of_a_session_does_not_end_the_others(
    storage: QueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = MemoryQueueStorage(storage.url.removeprefix("memory://"))
    reading, read = asyncio.Event(), asyncio.Event()

    async def read_slowly() -> list[QueueRecord]:
        reading.set()
        await read.wait()
        return await MemoryQueueStorage.queues(own)

    monkeypatch.setattr(own, "queues", read_slowly)
    server = make_mcp_server(own)
    async with Client(server) as client:
        call = asyncio.create_task(client.call_tool("list_queues", {}))
        await reading.wait()
        async with Client(server) as other:
            assert not (await other.call_tool("list_workers", {})).is_error
        read.set()
        assert not (await call).is_error
    async with Client(server) as client:
        assert not (await client.call_tool("list_queues", {})).is_error


async def test_what_is_large_is_cut(storage: QueueStorage) -> None:
    job_id = await add_job(storage, arguments=b'{"text":"' + b"x" * 100_000 + b'"}')
    shown = await call(storage, "show_job", show_payloads=True, id=str(job_id))
    assert shown["arguments"].endswith("xx… (100011 bytes)")
    async with Client(make_mcp_server(storage)) as client:
        answer = await client.call_tool("show_job", {"id": "x" * 100_000})
    assert "… (100002 characters) is not a job's id" in str(answer.content[0])
