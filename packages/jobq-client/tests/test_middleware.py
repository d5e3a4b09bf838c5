"""Middleware of a client: generators around each add, in the async and the sync client."""

from __future__ import annotations

from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest

from jobq_client import JobQueueClient, SyncJobQueueClient
from jobq_core import AddOptions, ConfigurationError, InvalidJobError, Job, JobRecord, job

tenant: ContextVar[str] = ContextVar("tenant", default="none")


@job
async def act(n: int = 0) -> None: ...


def tenancy(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
    options["headers"] = {**options.get("headers", {}), "tenant": tenant.get()}
    yield


async def found(client: JobQueueClient, job: Any) -> JobRecord:
    record = await client.get(job)
    assert record is not None
    return record


async def test_it_changes_the_options_and_sees_the_handle() -> None:
    seen: list[Any] = []
    async with JobQueueClient("memory://") as client:
        client.middleware(tenancy)

        @client.middleware
        def look(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
            seen.append((job, options.get("headers")))
            options["priority"] = 7
            seen.append((yield))

        tenant.set("acme")
        handle = await client.add(act(1), headers={"a": "b"}, tags=["x"])
        record = await found(client, handle)
        assert (record.meta, record.priority, record.tags) == ({"a": "b", "tenant": "acme"}, 7, ("x",))
        assert seen == [(act(1), {"a": "b", "tenant": "acme"}), handle]


async def test_add_many_calls_it_for_each_job() -> None:
    seen: list[Any] = []
    async with JobQueueClient("memory://") as client:

        @client.middleware
        def number(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
            options["headers"] = {"n": str(vars(job)["n"])}
            seen.append((yield))

        handles = await client.add_many([act(n) for n in range(3)], tags=["x"])
        assert [(await found(client, each)).meta for each in handles] == [{"n": "0"}, {"n": "1"}, {"n": "2"}]
        assert seen == list(reversed(handles))


async def test_it_sees_the_error_of_an_add_and_cannot_hide_it() -> None:
    seen: list[BaseException] = []
    async with JobQueueClient("memory://") as client:

        @client.middleware
        def hide(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
            try:
                yield
            except InvalidJobError as error:
                seen.append(error)

        with pytest.raises(InvalidJobError):
            await client.add(act("x"))  # type: ignore[arg-type]
        with pytest.raises(InvalidJobError) as raised:
            await client.add_many([act(1), act("x")])  # type: ignore[arg-type]
        assert raised.value.__notes__ == ["job 1 of the 2 given to add_many; none was added"]
        assert len(seen) == 3
        assert await client.size() == 0


async def test_its_own_error_before_the_add_adds_nothing() -> None:
    notes: list[str] = []
    async with JobQueueClient("memory://") as client:

        @client.middleware
        def outer(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
            try:
                yield
            except PermissionError:
                notes.append("seen")
                raise

        @client.middleware
        def refuse(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
            raise PermissionError("no")
            yield

        with pytest.raises(PermissionError):
            await client.add(act(1))
        with pytest.raises(PermissionError):
            await client.add_many([act(1)])
        assert await client.size() == 0
        assert notes == ["seen", "seen"]


def never(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
    return
    yield


def twice(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
    yield
    yield


async def test_a_wrong_form_is_named() -> None:
    async with JobQueueClient("memory://") as client:
        client.middleware(never)
        with pytest.raises(RuntimeError, match="middleware never ended without a yield; nothing was added"):
            await client.add(act())
    async with JobQueueClient("memory://") as client:
        client.middleware(twice)
        with pytest.raises(RuntimeError, match="middleware twice yielded twice"):
            await client.add(act())


@pytest.mark.parametrize("wrong", [print, 7, lambda job: (yield)], ids=["function", "number", "parameters"])
async def test_what_cannot_be_a_middleware_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="a middleware of a client"):
        JobQueueClient("memory://").middleware(wrong)


def test_the_sync_client_has_it_too_in_the_callers_thread_and_context() -> None:
    seen: list[Any] = []
    with SyncJobQueueClient("memory://") as client:
        client.middleware(tenancy)

        @client.middleware
        def look(job: Job[Any], options: AddOptions) -> Generator[None, Any, None]:
            seen.append((yield))

        tenant.set("sync")
        handle = client.add(act(1))
        [many] = client.add_many([act(2)])
        records = [client.get(each.id) for each in (handle, many)]
    assert [record.meta for record in records if record] == [{"tenant": "sync"}] * 2
    assert [each.id for each in seen] == [handle.id, many.id]
