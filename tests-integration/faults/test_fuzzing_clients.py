"""Client calls with any value for every option and argument, on memory, SQLite and PostgreSQL at once.

All storages accept the same values and keep the same records. All refuse the same values with the same message, and
store nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from bad_jobs import Anything, sound
from fuzzing.values import Drawn, anything, one_odd, plain
from fuzzing.verdicts import TIMEOUT, Refused, attempt_async, try_all, words_for
from hypothesis import strategies as st
from scaling import Scale

from jobq_client import JobQueueClient
from jobq_core import Backoff, JobRecord, JobState, open_storage

NEVER = UUID(int=7)
FAR = datetime(2200, 1, 1, tzinfo=UTC)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9)
seconds = st.one_of(st.floats(0.1, 1e6), st.integers(1, 100))


class Clients:
    """A client on each kind of storage, and an event loop that all examples share."""

    def __init__(self, runner: asyncio.Runner, urls: Mapping[str, str]) -> None:
        self._runner = runner
        self._urls = urls
        self._stack = contextlib.AsyncExitStack()
        self.each: list[JobQueueClient] = []
        self.stored = 0

    def run(self, what: Awaitable[Any]) -> Any:
        """Run an awaitable; fail if it hangs."""
        return self._runner.run(asyncio.wait_for(what, TIMEOUT * 3))

    async def start(self) -> None:
        for url in self._urls.values():
            storage = open_storage(url)
            await storage.migrate()
            await self._stack.enter_async_context(storage)
            self.each.append(await self._stack.enter_async_context(JobQueueClient(storage)))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def ask(self, call: Callable[[JobQueueClient], Awaitable[Any]], words: set[str]) -> Any:
        """Make the same call on all clients; return the answer or the error on which they agree."""
        answers = await asyncio.gather(*(attempt_async(lambda c=client: call(c), words) for client in self.each))
        assert all(same(answer, answers[0]) for answer in answers), dict(zip(self._urls, answers, strict=True))
        return answers[0]

    async def hold_nothing(self) -> None:
        """Check that no storage has a job or a count of one."""
        for name, client in zip(self._urls, self.each, strict=True):
            counted = await client.storage.counts()
            assert not any(sum(states.values()) for states in counted.values()), (name, counted)


def same(one: Any, other: Any) -> bool:
    """Return whether two answers are equal, except for ids and for timestamps less than a minute apart."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, JobRecord) and isinstance(other, JobRecord):
        one, other = _without_id(one), _without_id(other)
        return all(
            (a == b or (isinstance(a, datetime) and isinstance(b, datetime) and abs(a - b) < timedelta(seconds=60)))
            for a, b in zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
        )
    return bool(one == other)


def _without_id(record: JobRecord) -> JobRecord:
    return msgspec.structs.replace(record, id=NEVER)


@pytest.fixture
def clients(postgres_url: str, sqlite_url: str) -> Iterator[Clients]:
    with asyncio.Runner() as runner:
        made = Clients(runner, {"memory": "memory://", "sqlite": sqlite_url, "postgres": postgres_url})
        try:
            made.run(made.start())
            yield made
        finally:
            made.run(made.stop())


SUBMITTING = {
    "queue": names,
    "priority": st.integers(-100, 100),
    "delay": st.one_of(seconds, st.timedeltas(timedelta(seconds=60), timedelta(days=900))),
    "run_at": st.datetimes(min_value=datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    "deadline": seconds,
    "timeout": seconds,
    "max_attempts": st.integers(1, 32767),
    "retry": st.just(Backoff(base=3)),
    "unique": names,
    "run_id": names,
    "tags": st.lists(names, max_size=3),
}
WORDS = {"tags": "tag", "run_at": "run_at"}


async def added(client: JobQueueClient, options: Mapping[str, Any], many: bool) -> JobRecord:
    """Add a job, read its record, and remove the job."""
    if many:
        first, second = await client.add_many([sound(1), sound(2)], **options)
        assert (first.id == second.id) is ("unique" in options and options["unique"] is not None)
        await client.delete(second)
        if first.id == second.id:
            (first,) = await client.add_many([sound(1)], **options)
    else:
        first = await client.add(sound(1), **options)
    record = await client.get(first)
    assert record is not None
    assert [each.id for each in (await client.find(queue=record.queue, tag=record.tags)).jobs] == [first.id]
    await client.delete(first)
    return record


def test_all_storages_keep_or_refuse_the_same_options_of_add(
    clients: Clients, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    outcomes = {True: 0, False: 0}

    def check(drawn: tuple[Drawn, bool]) -> None:
        options, many = drawn
        # Options that exclude each other are refused together.
        words = words_for(options.odd, WORDS) | (
            {"delay", "run_at"} if {"delay", "run_at"} & set(options.odd) else set()
        )
        if {"delay", "run_at"} <= options.given.keys():
            words |= {"delay or run_at"}
        answer = clients.run(clients.ask(lambda client: added(client, options.given, many), words))
        outcomes[isinstance(answer, Refused)] += 1
        clients.run(clients.hold_nothing())

    tried = try_all(
        st.tuples(one_odd(SUBMITTING, odds=2), st.booleans()), check, count=scale.times(250, least=40), seed=seed
    )
    report("odd options of add, on three storages", tried=tried, added=3 * outcomes[False])
    assert all(outcomes.values())


@pytest.mark.parametrize("values", [plain, anything], ids=["json", "anything"])
def test_all_storages_return_or_refuse_the_same_arguments(
    values: st.SearchStrategy[Any], clients: Clients, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    outcomes = {True: 0, False: 0}

    async def there_and_back(client: JobQueueClient, value: Any) -> Any:
        handle = await client.add(Anything(value))
        record = await client.get(handle)
        assert record is not None
        assert msgspec.json.encode(record.arguments) == record.arguments_json
        assert await client.find_output(Anything(value)) is None
        await client.delete(handle)
        return record

    def check(value: Any) -> None:
        answer = clients.run(clients.ask(lambda client: there_and_back(client, value), {"Anything"}))
        outcomes[isinstance(answer, Refused)] += 1
        clients.run(clients.hold_nothing())

    tried = try_all(values, check, count=scale.times(200, least=40), seed=seed)
    report("odd arguments, on three storages", tried=tried, added=3 * outcomes[False])
    assert all(outcomes.values())


FINDING = {
    "state": st.sampled_from([JobState.FAILED, [JobState.PENDING, "failed"], ()]),
    "queue": names,
    "kind": st.sampled_from(["sound", sound, [sound, Anything]]),
    "tag": st.one_of(names, st.lists(names, max_size=3)),
    "run_id": names,
    "after": st.uuids(),
    "limit": st.integers(1, 1000),
}


async def _all_of(pages: AsyncIterator[Any]) -> list[Any]:
    return [record async for record in pages]


def test_all_storages_accept_or_refuse_the_same_filters_of_find(
    clients: Clients, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    words = {"kind": "job", "after": "job id", "tag": "tag", "state": "state"}
    refused = 0

    def check(drawn: Drawn) -> None:
        nonlocal refused
        said = words_for(drawn.odd, words) | ({"kind"} if "kind" in drawn.odd else set())
        answer = clients.run(clients.ask(lambda client: client.find(**drawn.given), said))
        refused += isinstance(answer, Refused)
        given = {name: value for name, value in drawn.given.items() if name not in ("after", "limit")}
        clients.run(clients.ask(lambda client: _all_of(client.find_all(**given)), said))

    tried = try_all(one_odd(FINDING, odds=2), check, count=scale.times(200, least=40), seed=seed)
    report("odd filters of find, on three storages", tried=tried)
    assert 0 < refused < tried


def not_too_short(timeout: Any) -> Any:
    """Replace timeouts so short that they may expire before the first poll."""
    return 10 if isinstance(timeout, float | int) and 0 < timeout < 10 else timeout


ASKING: dict[str, Callable[[JobQueueClient, Any], Any]] = {
    "add": lambda client, value: client.add(value),
    "add_many": lambda client, value: client.add_many(value),
    "add_many of one": lambda client, value: client.add_many([sound(1), value]),
    "wait_for": lambda client, value: client.wait_for(value, timeout=0),
    "wait_for's timeout": lambda client, value: client.wait_for(NEVER, timeout=not_too_short(value)),
    "progress_of": lambda client, value: client.progress_of(value),
    "get": lambda client, value: client.get(value),
    "abort": lambda client, value: client.abort(value),
    "retry": lambda client, value: client.retry(value),
    "disable": lambda client, value: client.disable(value),
    "enable": lambda client, value: client.enable(value),
    "delete": lambda client, value: client.delete(value),
    "abort_run": lambda client, value: client.abort_run(value),
    "clear": lambda client, value: client.clear(value),
    "counts": lambda client, value: client.counts(value),
    "size": lambda client, value: client.size(state=value),
    "output_for": lambda client, value: client.output_for(value),
    "output_for's queue": lambda client, value: client.output_for(Anything(1), queue=value),
    "follow": lambda client, value: _all_of(client.follow(value)),
    "watch": lambda client, value: client.watch(value)(),
    "on_progress": lambda client, value: client.on_progress(value, print)(),
    "on_progress's callback": lambda client, value: client.on_progress(NEVER, value)(),
}
SAID = {"job", "jobs", "timeout", "run_id", "queue", "state", "function"}


def test_all_storages_accept_or_refuse_the_same_jobs_and_names(
    clients: Clients, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    refused = 0

    async def ask(client: JobQueueClient, name: str, value: Any) -> Any:
        answer = ASKING[name](client, value)
        return await answer if inspect.isawaitable(answer) else answer

    def check(drawn: tuple[str, Any]) -> None:
        nonlocal refused
        answer = clients.run(clients.ask(lambda client: ask(client, *drawn), SAID))
        refused += isinstance(answer, Refused)
        clients.run(clients.hold_nothing())

    tried = try_all(
        st.tuples(st.sampled_from(sorted(ASKING)), anything), check, count=scale.times(400, least=80), seed=seed
    )
    report("odd jobs and names, on three storages", tried=tried)
    assert 0 < refused < tried
