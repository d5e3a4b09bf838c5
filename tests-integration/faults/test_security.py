"""Attacks: leaks of Secrets, hostile names, and roles that exceed their privileges."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
import string
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import psycopg
import pytest
import security_jobs
from psycopg import sql

from jobq_client import JobHandle, JobQueueClient
from jobq_core import (
    ConfigurationError,
    Event,
    InvalidJobError,
    JobFailed,
    JobQueueError,
    JobState,
    Secret,
    StorageError,
    job,
    open_storage,
)
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_core.storage import FINISHED_TOPIC, WAITING_TOPIC, QueueStorage
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.testing import ThrowawayPostgres
from jobq_storage_sqlite import SqliteQueueStorage
from jobq_worker import JobQueueWorker

AT_REST = frozenset(JobState) - {JobState.PENDING, JobState.PROCESSING}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated storage, for each kind."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    url = str(request.getfixturevalue(f"{request.param}_url"))
    await open_storage(url).migrate()
    return url


class LogCapture(logging.Handler):
    """Collects all log records as text, with the reprs of their arguments."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.said: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.said += [self.format(record), repr(record.args)]
        if record.exc_info:
            self.said += list(everything_said(record.exc_info[1]))


@pytest.fixture
def overheard() -> Iterator[LogCapture]:
    """Capture all logs, including those of the event loop's debug mode."""
    root, heard = logging.getLogger(), LogCapture()
    before = {name: logging.getLogger(name).level for name in (None, *logging.root.manager.loggerDict)}
    for name in before:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(heard)
    yield heard
    root.removeHandler(heard)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def everything_said(error: BaseException | None) -> Iterator[str]:
    """Yield the texts and reprs of an error, its causes, contexts, sub-exceptions and notes."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield from (str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error)))
        waiting += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]


def word_of(seed: int) -> str:
    """Make a secret that needs quoting everywhere and cannot occur by chance."""
    draw = random.Random(seed)
    return "".join(draw.choices(string.ascii_letters, k=12)) + "/ '\"&é" + "".join(draw.choices(string.digits, k=12))


def assert_hidden(word: str, said: list[str]) -> None:
    """Check that no text contains either half of the secret; the characters between the halves may be quoted."""
    for text in said:
        for half in (word[:12], word[-12:]):
            assert half not in text, f"shown: {text[max(0, text.index(half) - 200) :][:400]}"


async def test_no_secret_is_shown_whatever_goes_wrong(
    url: str, overheard: LogCapture, seed: int, report: Callable[..., None]
) -> None:
    word = word_of(seed)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0  # the loop logs each callback, with its arguments
    said = overheard.said
    storage = open_storage(url)
    async with storage, JobQueueClient(storage) as client:
        worker = JobQueueWorker(
            storage, jobs=[security_jobs.in_loop, security_jobs.in_thread], queues=["default", "elsewhere"]
        )
        for source in (client, worker):
            source.on(Event, lambda event: said.append(repr(event)))
        for bad in (
            security_jobs.in_loop(Secret(word + "\0"), "x"),
            security_jobs.in_loop(Secret(word + "\udc80"), "x"),
            security_jobs.in_loop(Secret(word * 20_000), "x"),
            security_jobs.in_loop(Secret({word: 2**70}), "x"),  # type: ignore[arg-type]
            security_jobs.misfit(Secret(word), 1),  # type: ignore[arg-type]
        ):
            for attempt in (client.add(bad), client.add_many([bad]), client.add(bad, unique=bad)):  # type: ignore[arg-type]
                with pytest.raises(JobQueueError) as caught:
                    await attempt
                said += everything_said(caught.value)
        handles = []
        async with worker:
            for kind in (security_jobs.in_loop, security_jobs.in_thread):
                handles += await client.add_many([kind(Secret(word), how) for how in security_jobs.HOWS])
                handles.append(await client.add(kind(Secret(word), "fine"), tags=["t"], unique=kind.definition.kind))
            foreign = new_job(new_id(), security_jobs.in_loop(Secret(word), "x"), "default", {})
            (added,) = await storage.add([foreign])
            said += [repr(foreign), repr(handles), repr(worker.health()), repr(worker.pool_stats().total)]
            unfit = json.dumps({"token": [word], "how": 1}).encode()
            broken = json.dumps({"token": word}).encode()[:-2] + b"\xff"
            strange = [new_job(new_id(), security_jobs.unknown(Secret(word)), "default", {})]
            for arguments in (unfit, broken) if url.startswith("memory") else (unfit,):
                like = new_job(new_id(), security_jobs.in_loop(Secret("x"), "x"), "default", {})
                like = type(like)(id=like.id, queue=like.queue, kind=like.kind, arguments=arguments, max_attempts=1)
                strange.append(like)
            await storage.add(strange)
            said += [text for handle in handles for text in await texts_about(client, handle, timeout=0.01)]
            waited = [one.id for one in handles] + [added.id] + [one.id for one in strange[1:]]
            await until_still(storage, waited)
        said += [text for handle in handles for text in await texts_about(client, handle, timeout=0)]
        records = await storage.get([*waited, strange[0].id])
        assert None not in records
        said += [repr(records), repr(await storage.get_status(waited)), repr(await client.find(limit=1000))]
        failed = [record for record in records if record and record.state is JobState.FAILED]
        said += [repr(record.error) + repr(record.attempts) for record in failed]
        assert len(failed) >= 15
        kept = [record.arguments["token"] for record in records if record and record.state is JobState.COMPLETED]
        assert kept == [word] * 3, "the secret is stored with the arguments, and only there"
    report(f"secrets on {url.partition(':')[0]}", tried=len(waited) + 15, added=len(waited), runs=len(waited))
    assert len(said) > 1000
    assert_hidden(word, said)
    assert_hidden(word, list(everything_stored(url)))


STRICT = {
    "DETAIL": "ALTER TABLE jobq.job ADD CONSTRAINT strict CHECK (kind <> '{kind}')",
    "CONTEXT": """
        CREATE FUNCTION jobq.strict() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                EXECUTE 'SELECT 1 / 0 /* ' || new.arguments::text || '*/';
                RETURN new;
            END
        $$;
        CREATE TRIGGER strict BEFORE INSERT ON jobq.job FOR EACH ROW EXECUTE FUNCTION jobq.strict();
    """,
}
"""Changes by an administrator, by the part of the error in which PostgreSQL then repeats the arguments."""


@pytest.mark.parametrize("where", STRICT)
async def test_no_secret_is_shown_where_postgresql_repeats_refused_values(
    postgres: ThrowawayPostgres, overheard: LogCapture, seed: int, report: Callable[..., None], where: str
) -> None:
    """The server is separate, since its log may show the secret: that is the administrator's choice."""
    url, word, said = postgres.dsn, word_of(seed), overheard.said
    await open_storage(url).migrate()
    asyncio.get_running_loop().set_debug(True)
    job = security_jobs.in_loop(Secret(word), "fine")
    async with (
        await psycopg.AsyncConnection.connect(url) as own,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as admin,
        JobQueueClient(url) as client,
    ):
        await admin.execute(STRICT[where].format(kind=job.definition.kind).encode())
        attempts: tuple[Callable[[], Any], ...] = (
            lambda: client.add(job),
            lambda: client.add(job, unique="k", delay=60, tags=["t"]),
            lambda: client.add_many([job, job]),
            lambda: client.add(job, connection=own),
            lambda: client.add_many([job], connection=own, unique="k"),
            lambda: client.add(job, connection=admin),
        )
        for attempt in attempts:
            with pytest.raises(StorageError, match=r"violates check constraint|division by zero") as caught:
                await attempt()
            cause = caught.value.__cause__
            assert isinstance(cause, psycopg.Error)
            told = cause.diag.message_detail if where == "DETAIL" else cause.diag.context
            assert word[:12] in str(told), "PostgreSQL does not repeat the secret: this proves nothing"
            said += everything_said(caught.value)
            await own.rollback()
        assert await client.size() == 0
    report(f"secrets in PostgreSQL's {where}", tried=len(attempts))
    assert_hidden(word, said)


async def texts_about(client: JobQueueClient, handle: JobHandle[Any], timeout: float) -> list[str]:
    """Wait for a job, and return all texts about its result."""
    try:
        return [repr(await client.wait_for(handle, timeout=timeout))]
    except Exception as error:  # noqa: BLE001  (any error of the job)
        return list(everything_said(error))


async def until_still(storage: QueueStorage, ids: Sequence[UUID]) -> None:
    """Wait until all of these jobs have run."""
    async with asyncio.timeout(60), storage.subscribe([FINISHED_TOPIC, WAITING_TOPIC]) as ear:
        while not all(status and status.state in AT_REST for status in await storage.get_status(ids)):
            await ear.wait(0.2)


def everything_stored(url: str) -> Iterator[str]:
    """Yield each row of a storage as text, without the arguments, and the server's log."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                cursor = db.execute(f"SELECT * FROM {table}")
                for row in cursor:
                    named = zip((column[0] for column in cursor.description), row, strict=True)
                    yield str({name: value for name, value in named if name != "arguments"})
    elif url.startswith("postgres"):
        with psycopg.connect(url) as connection:
            query = (
                "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'jobq'::regnamespace AND relkind = 'r'"
            )
            for (table,) in connection.execute(query).fetchall():
                rows = connection.execute(f"SELECT (to_jsonb(t) - 'arguments')::text FROM {table} t".encode())
                yield from (row[0] for row in rows)
        (folder,) = parse_qs(urlsplit(url).query)["host"]
        yield Path(folder, "log").read_text()


JOBS = """
import sys
sys.path.insert(0, {folder!r})
from security_jobs import in_loop, in_thread
"""


async def test_a_worker_process_prints_no_secret(
    storage_url: str, children: Any, tmp_path: Path, seed: int, report: Callable[..., None]
) -> None:
    word = word_of(seed)
    (tmp_path / "secret_jobs.py").write_text(JOBS.format(folder=str(Path(__file__).parent)))
    await open_storage(storage_url).migrate()
    worker = children.jobq("worker", "secret_jobs", JOBQ_STORAGE=storage_url, PYTHONASYNCIODEBUG="1", PYTHONDEVMODE="1")
    worker.wait_for_line("started")
    async with JobQueueClient(storage_url) as client:
        kinds = (security_jobs.in_loop, security_jobs.in_thread)
        handles = await client.add_many([kind(Secret(word), how) for kind in kinds for how in security_jobs.HOWS])
        await until_still(client.storage, [handle.id for handle in handles])
    worker.terminate()
    assert worker.wait() == 0
    report("secrets in a worker's process", tried=len(handles), added=len(handles), runs=len(handles))
    assert_hidden(word, [worker.output, *map(str, worker.command), *everything_stored(storage_url)])


HOSTILE = [
    *("it's", 'a "quoted" name', "semi; DROP TABLE job; --", "per%cent %s %(x)s", "{0} {x}", "back\\slash \\x00 \\n"),
    *("new\nline\r\ttab", "dots.in.it", "日本語 é \U0001f600", "x" * 255, "\U0001f600" * 255, " ", "'", '"', "$1"),
    *("$$", "*", "null", "NULL", "[]", '{"a":1}', "queue:default", "\x01\x7f\u2028\u202e", "--", "/*", "%", "_"),
    *("?", ":name", "default\x1f"),
]


async def test_hostile_names_are_taken_literally(url: str, report: Callable[..., None]) -> None:
    names = HOSTILE

    def declare(name: str) -> Any:
        @job(name=name, queue=name)
        async def hostile() -> str:
            return name

        return hostile

    kinds = [declare(name) for name in names]
    storage = open_storage(url)
    async with (
        storage,
        JobQueueWorker(storage, jobs=kinds, name=names[-1]) as worker,
        JobQueueClient(storage, queue=names[0]) as client,
    ):
        assert set(worker.queues) == set(names)
        results = []
        for kind, name in zip(kinds, names, strict=True):
            handle = await client.add(kind(), unique=name, run_id=name, tags=[name], delay=0.001)
            results.append(await client.wait_for(handle, timeout=30))
            for found in (
                await client.find(queue=name),
                await client.find(kind=name),
                await client.find(tag=name),
                await client.find(run_id=name),
            ):
                assert [one.id for one in found.jobs] == [handle.id], f"{name!r} found {found.jobs}"
        assert results == names
        counted = await storage.counts()
        assert {queue: counts[JobState.COMPLETED] for queue, counts in counted.items()} == dict.fromkeys(names, 1)
        (record,) = await storage.workers()
        assert (record.info.name, set(record.info.queues)) == (names[-1], set(names))
        assert [await storage.clear(name) for name in names] == [1] * len(names)
        for bad in ("", "x" * 256, "nul\0", "lone \udc80", 5, b"x"):
            refuse: list[Callable[[Any], object]] = [
                lambda bad: JobQueueClient(storage, queue=bad),
                lambda bad: JobQueueWorker(storage, jobs=kinds, queues=[bad]),
                lambda bad: JobQueueWorker(storage, jobs=kinds, name=bad),
                lambda bad: job(name=bad)(everything_said),
            ]
            for make in refuse:
                with pytest.raises((ConfigurationError, InvalidJobError)):
                    make(bad)
            deny: list[Callable[[Any], Any]] = [
                lambda bad: client.add(kinds[0](), run_id=bad),
                lambda bad: client.add(kinds[0](), unique=bad),
                lambda bad: client.add(kinds[0](), tags=[bad]),
                lambda bad: client.find(tag=[bad]),
                lambda bad: client.find(queue=bad),
                lambda bad: client.find(run_id=bad),
                lambda bad: client.abort_run(bad),
                lambda bad: client.counts(bad),
            ]
            for ask in deny:
                with pytest.raises((ConfigurationError, InvalidJobError)):
                    await ask(bad)
    report(f"hostile names on {url.partition(':')[0]}", tried=len(names), added=len(names), runs=len(names))


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return [path.name for path in folder.iterdir()]


PATHS = ["it's here.db", "a?b#c%20d.db", 'quo"te;--.db', "日本 é.db", "%41 %.db", "-rf.db", "x" * 200]


@pytest.mark.parametrize("name", PATHS)
async def test_hostile_paths_are_taken_literally(tmp_path: Path, name: str) -> None:
    storage = SqliteQueueStorage(tmp_path / name)
    async with storage:
        await storage.add([new_job(new_id(), security_jobs.in_loop(Secret("x"), "x"), "default", {})])
    assert {file.removesuffix("-wal").removesuffix("-shm") for file in names_in(tmp_path)} == {name}
    again = open_storage(storage.url)
    async with again:
        assert (await again.counts("default"))["default"][JobState.PENDING] == 1


@pytest.fixture
async def roles(postgres: ThrowawayPostgres, children: Any) -> Callable[[str], str]:
    """A database whose owner has migrated it and granted privileges, with the commands; returns the URL of a role."""
    names = ["deploy", "web", "jobs", "grafana", "ops", "guest"]
    async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as admin:
        for name in names:
            await admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        await admin.execute("CREATE SCHEMA jobq AUTHORIZATION deploy")

    def url(name: str) -> str:
        return postgres.dsn.replace("postgres@", f"{name}@", 1)

    assert children.jobq("migrate", JOBQ_STORAGE=url("deploy")).wait() == 0
    granted = "--producer web --worker jobs --reader grafana --operator ops"
    assert children.jobq("grant", *granted.split(), JOBQ_STORAGE=url("deploy")).wait() == 0
    return url


async def test_each_role_can_use_the_real_programs_within_its_privileges_only(
    roles: Callable[[str], str], children: Any, tmp_path: Path, report: Callable[..., None]
) -> None:
    (tmp_path / "secret_jobs.py").write_text(JOBS.format(folder=str(Path(__file__).parent)))
    worker = children.jobq("worker", "secret_jobs", JOBQ_STORAGE=roles("jobs"))
    worker.wait_for_line("started")
    token = Secret("x")
    async with JobQueueClient(roles("web")) as web, JobQueueClient(roles("grafana")) as reader:
        fine = await web.add(security_jobs.in_loop(token, "fine"))
        assert await web.wait_for(fine, timeout=30) == 1
        seen: asyncio.Future[JobFailed] = web.next_event(JobFailed)  # type: ignore[assignment]
        bad = await web.add(security_jobs.in_thread(token, "message"), unique="k", delay=0.01)
        web.watch(bad)
        with pytest.raises(ValueError, match=r"\*\*\* was refused"):
            await web.wait_for(bad, timeout=30)
        assert (await asyncio.wait_for(seen, 30)).job_id == bad.id
        record = await web.get(bad)
        assert record is not None
        assert len((await reader.find(state=JobState.FAILED)).jobs) == 1
        assert (await reader.counts())[JobState.COMPLETED] == 1
        assert len(await reader.storage.workers()) == 1
        async with JobQueueClient(roles("ops")) as ops:
            assert await ops.retry(bad)
            with pytest.raises(ValueError, match="refused"):
                await web.wait_for(bad, timeout=30)
            assert await ops.delete(bad)
        denied = 0
        for attempt, remedy in (
            (lambda: web.abort(fine), "--operator web"),
            (lambda: web.counts(), "--reader web"),
            (lambda: web.storage.workers(), "--reader web"),
            (lambda: web.storage.promote(), "--worker web"),
            (lambda: reader.add(security_jobs.in_loop(token, "fine")), "--producer grafana"),
            (lambda: reader.add(security_jobs.in_loop(token, "fine"), unique="x"), "--producer grafana"),
            (lambda: reader.delete(fine), "--operator grafana"),
            (lambda: reader.storage.prune(), "--worker grafana"),
        ):
            with pytest.raises(StorageError, match=f"lacks a privilege: permission denied.*jobq grant {remedy}"):
                await attempt()
            denied += 1
    worker.terminate()
    assert worker.wait() == 0
    assert "privilege" not in worker.output
    for name in ("web", "grafana", "ops", "guest"):
        refused = children.jobq("worker", "secret_jobs", JOBQ_STORAGE=roles(name))
        assert refused.wait() == 1
        assert f"role '{name}' lacks a privilege: permission denied" in refused.output
        assert f"`jobq grant --{'producer' if name == 'guest' else 'worker'} {name}`" in refused.output
        assert "Traceback" not in refused.output
        migration = children.jobq("migrate", JOBQ_STORAGE=roles(name))
        assert (migration.wait(), "up to date" in migration.output) == ((0, True) if name != "guest" else (1, False))
        denied += 1
    report("a role that exceeds its privileges", tried=denied, added=2, runs=3)


async def test_a_worker_that_loses_its_privileges_reports_it_and_continues_when_it_has_them_again(
    roles: Callable[[str], str], postgres: ThrowawayPostgres, children: Any, tmp_path: Path, report: Callable[..., None]
) -> None:
    (tmp_path / "secret_jobs.py").write_text(JOBS.format(folder=str(Path(__file__).parent)))
    worker = children.jobq("worker", "secret_jobs", JOBQ_STORAGE=roles("jobs"))
    worker.wait_for_line("started")
    async with (
        JobQueueClient(roles("web")) as web,
        await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as admin,
    ):
        await admin.execute("REVOKE DELETE ON jobq.ready FROM jobs")
        handles = await web.add_many([security_jobs.in_loop(Secret("x"), "fine") for _ in range(20)])
        worker.wait_for_line("permission denied for table ready .*jobq grant --worker jobs")
        began = asyncio.get_running_loop().time()
        await PostgresQueueStorage(roles("deploy")).grant({"worker": ["jobs"]})
        assert [await web.wait_for(handle, timeout=30) for handle in handles] == [1] * 20
        recovery = asyncio.get_running_loop().time() - began
    worker.terminate()
    assert worker.wait() == 0
    report("privileges revoked from a worker at work", tried=1, added=20, runs=20, recovery=recovery)
