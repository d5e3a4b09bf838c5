"""Each part can do all that it is for, needs every privilege that it is given, and is denied all others."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import attrs
import psycopg
import pytest
import pytest_asyncio
from click.testing import CliRunner
from psycopg import sql

from jobq_core.commands import main
from jobq_core.errors import ConfigurationError, StorageError
from jobq_core.records import WorkerStats
from jobq_core.testing import add_job, new_job, worker_info
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.grants import PARTS, STATEMENTS, Part, grants
from jobq_storage_postgres.sql import Statements

from .parts import ACTS

VERBS = {
    "r": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"),
    "S": ("USAGE", "SELECT", "UPDATE"),
}
TRIES = {
    "SELECT": "SELECT 1 FROM {0} LIMIT 1",
    "INSERT": "INSERT INTO {0} DEFAULT VALUES",
    "UPDATE": "UPDATE {0} SET {1} = {1}",
    "DELETE": "DELETE FROM {0}",
    "TRUNCATE": "TRUNCATE {0}",
    "USAGE": "SELECT nextval('{0}')",
}


_NOT_OF_VIEWS = (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.WrongObjectType)


@attrs.frozen
class Granted:
    """A schema whose owner is not a superuser, and a role for each part."""

    dsn: str
    schema: str
    admin: psycopg.AsyncConnection[Any]

    def role(self, name: str) -> str:
        return f"{self.schema}_{name}"

    def storage(self, name: str) -> PostgresQueueStorage:
        dsn = self.dsn.replace("postgres@", f"{self.role(name)}@", 1)
        return PostgresQueueStorage(dsn, schema=self.schema, time_limit=10)

    async def run(self, query: str, *names: str) -> None:
        await self.admin.execute(sql.SQL(query).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def place(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[Granted]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        place = Granted(postgres_dsn, postgres_schema, admin)
        roles = [place.role(name) for name in ("owner", *PARTS, "nobody")]
        try:
            for role in roles:
                await place.run("CREATE ROLE {} LOGIN", role)
            await place.run("CREATE SCHEMA {} AUTHORIZATION {}", postgres_schema, roles[0])
            await place.storage("owner").migrate()
            await place.storage("owner").grant({part: [place.role(part)] for part in PARTS})
            yield place
        finally:
            for role in roles:
                await place.run("DROP OWNED BY {} CASCADE", role)
                await place.run("DROP ROLE {}", role)


def test_every_statement_belongs_to_a_part() -> None:
    assert set().union(*STATEMENTS.values()) == set(Statements("jobq"))


@pytest.mark.parametrize("part", PARTS)
async def test_a_part_can_do_what_it_is_for_after_new_partitions_too(place: Granted, part: str) -> None:
    async with place.storage("owner") as owner, place.storage(part) as app:
        await ACTS[part](app, owner)
        name = sql.Identifier(place.schema, "clock")
        body = sql.Literal("SELECT pg_catalog.clock_timestamp() + interval '60 days'")
        await place.admin.execute(
            sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS timestamptz LANGUAGE sql VOLATILE AS {}").format(
                name, body
            )
        )
        async with place.storage("worker") as worker:
            await worker._maintain_partitions()
        await ACTS[part](app, owner)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", PARTS)
async def test_a_part_needs_each_of_its_privileges(
    place: Granted, part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    role = place.role(part)
    for statement in grants(place.schema, {part: [role]}):
        if statement.startswith("GRANT USAGE ON SCHEMA"):
            await place.admin.execute(statement.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM ").encode())
            with pytest.raises(StorageError, match="lacks a privilege"):
                await place.storage(part).open()
            await place.admin.execute(statement.encode())
    async with place.storage("owner") as owner, place.storage(part) as kept:

        async def act(opened: AbstractAsyncContextManager[PostgresQueueStorage]) -> str:
            """Return what is said of a denied privilege: in an error or, if jobs are stored already, in the log."""
            caplog.clear()
            try:
                async with opened as app:
                    await ACTS[part](app, owner)
            except StorageError as error:
                return str(error)
            return caplog.text

        for thing, verbs in PARTS[part].items():
            for verb in verbs:
                kind = "FUNCTION" if "(" in thing else "TABLE"
                where = f"ON {kind} {place.schema}.{thing}"
                await place.admin.execute(f"REVOKE {verb} {where} FROM {role}".encode())
                # An open storage has planned its statements; some privileges it needs only when it is opened.
                said = await act(nullcontext(kept)) or await act(place.storage(part))
                assert f"role {role!r} lacks a privilege: permission denied" in said, f"without {verb} on {thing}"
                assert re.search(rf"run `jobq grant --\w+ {role}`", said)
                assert verb in said
                await place.admin.execute(f"GRANT {verb} {where} TO {role}".encode())


@pytest.mark.parametrize("part", [*PARTS, "nobody"])
async def test_a_part_is_denied_everything_else(place: Granted, part: str) -> None:
    async with place.storage("owner") as owner:
        await add_job(owner)
        await owner._maintain_partitions()
    given = PARTS.get(part, {})  # type: ignore[call-overload]
    query = (
        "SELECT c.relname, c.relkind, a.attname "
        "FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1 "
        "WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r','p','v','S')"
    )
    things = await (await place.admin.execute(query, (place.schema,))).fetchall()
    assert len(things) > 20
    dsn = place.dsn.replace("postgres@", f"{place.role(part)}@", 1)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as app:
        for name, kind, column in things:
            verbs = given.get(name, ())
            for verb in VERBS.get(kind, VERBS["r"]):
                check = "has_sequence_privilege" if kind == "S" else "has_table_privilege"
                row = await place.admin.execute(
                    f"SELECT {check}(%s, %s, %s)".encode(), (place.role(part), f"{place.schema}.{name}", verb)
                )
                assert await row.fetchone() == (verb in verbs,), f"{verb} on {name}"
                if verb in TRIES and verb not in verbs and (kind != "S" or verb == "USAGE"):
                    # Of a view that joins tables, the first thing to be said is that nobody can write to it.
                    unwritable = _NOT_OF_VIEWS if kind == "v" else ()
                    with pytest.raises((psycopg.errors.InsufficientPrivilege, *unwritable)):
                        await app.execute(TRIES[verb].format(f"{place.schema}.{name}", column).encode())
        for what in (
            "CREATE TABLE {0}.other ()",
            "DROP TABLE {0}.queue",
            "ALTER TABLE {0}.job ADD COLUMN more int",
            "CREATE OR REPLACE FUNCTION {0}.clock() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
            "DROP SCHEMA {0} CASCADE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await app.execute(what.format(place.schema).encode())
        for call, thing in (
            ("make_partitions()", "make_partitions()"),
            ("drop_partitions(interval '1 day', 1)", "drop_partitions(interval, integer)"),
            ("analyze()", "analyze()"),
        ):
            if thing not in given:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await app.execute(f"SELECT {place.schema}.{call}".encode())


async def test_a_callers_temporary_tables_and_types_do_not_mislead_what_runs_as_the_owner(place: Granted) -> None:
    dsn = place.dsn.replace("postgres@", f"{place.role('worker')}@", 1)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as app:
        for trap in (
            "CREATE TEMP TABLE pg_class (oid oid, relname name, relnamespace text)",
            "CREATE TEMP TABLE pg_inherits (inhparent oid, inhrelid oid)",
            "CREATE DOMAIN pg_temp.regnamespace AS text",
            "CREATE DOMAIN pg_temp.date AS text",
            f"INSERT INTO pg_temp.pg_class VALUES ('{place.schema}.job'::regclass, 'job_20200106', 'public')",
            f"INSERT INTO pg_temp.pg_inherits VALUES ('{place.schema}.job'::regclass, '{place.schema}.job'::regclass)",
        ):
            await app.execute(trap.encode())
        await place.admin.execute(
            f"CREATE OR REPLACE FUNCTION {place.schema}.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            "$$ SELECT pg_catalog.clock_timestamp() + interval '14 days' $$".encode()
        )
        made = await (await app.execute(f"SELECT {place.schema}.make_partitions()".encode())).fetchone()
        assert made == (6,)
        dropped = await (
            await app.execute(f"SELECT {place.schema}.drop_partitions(interval '7 days', 9)".encode())
        ).fetchone()
        assert dropped == (1,)


async def test_each_operation_reports_a_missing_privilege_alike(place: Granted) -> None:
    async with place.storage("reader") as app:
        for act, wanted in (
            (lambda: app.add([new_job()]), "a producer needs SELECT, INSERT there.*--producer"),
            (lambda: app.add([new_job(unique_key="k")]), "a producer needs SELECT, INSERT there.*--producer"),
            (lambda: app.register(worker_info()), "a worker needs SELECT, INSERT, UPDATE, DELETE there.*--worker"),
            (lambda: app.abort([new_job().id]), "an? operator needs .*there.*--operator"),
            (lambda: app.clear("default"), None),
        ):
            if wanted is None:
                assert await act() == 0  # nothing was there to remove, and looking is a reader's right
                continue
            with pytest.raises(StorageError, match=wanted) as caught:
                await act()
            assert f"role {place.role('reader')!r} lacks a privilege: permission denied for table" in str(caught.value)
        heartbeat = app.heartbeat(worker_info())
        with pytest.raises(StorageError, match=r"a worker needs .*--worker"):
            heartbeat.beat(WorkerStats())
        heartbeat.close()
        dsn = place.dsn.replace("postgres@", f"{place.role('reader')}@", 1)
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            with pytest.raises(StorageError, match=r"a producer needs .*--producer"):
                await app.add([new_job()], connection=connection)
    with pytest.raises(StorageError, match=r"lacks a privilege: permission denied for schema .*jobq grant"):
        await place.storage("nobody").open()


@pytest.mark.parametrize("name", ["nobody", "worker"])
async def test_only_the_owner_migrates_and_grants(place: Granted, name: str) -> None:
    with pytest.raises(StorageError, match=r"not the owner.*CREATE SCHEMA .* AUTHORIZATION"):
        await place.storage(name).grant({"producer": [place.role("nobody")]})
    await place.run("DROP SCHEMA {} CASCADE", place.schema)
    with pytest.raises(StorageError, match=r"not the owner.*CREATE SCHEMA .* AUTHORIZATION"):
        await place.storage(name).migrate()


async def test_granting_again_changes_nothing_and_a_role_that_is_not_there_is_named(place: Granted) -> None:
    owner = place.storage("owner")
    await owner.grant({"producer": [place.role("producer"), place.role("reader")]})
    with pytest.raises(StorageError, match='role "nowhere" does not exist'):
        await owner.grant({"reader": [place.role("nobody"), "nowhere"]})
    with pytest.raises(StorageError, match="lacks a privilege"):  # all or none
        await place.storage("nobody").open()


@pytest.mark.parametrize("name", ["", "public", "none", "a\0b", "x" * 64, "\udc80"])
def test_an_invalid_role_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a role must be a name"):
        grants("jobq", {"reader": [name]})


@pytest.mark.parametrize("name", ['we"ird', "it's", "semi; DROP", "per%cent", "été", "CURRENT_USER", "a.b"])
async def test_any_name_serves_as_role(place: Granted, name: str) -> None:
    role = f"{name} {place.schema[-6:]}"
    await place.run("CREATE ROLE {} LOGIN", role)
    try:
        await place.storage("owner").grant({"reader": [role]})
        row = await place.admin.execute("SELECT has_table_privilege(%s, %s, 'SELECT')", (role, f"{place.schema}.job"))
        assert await row.fetchone() == (True,)
    finally:
        await place.run("DROP OWNED BY {}", role)
        await place.run("DROP ROLE {}", role)


def test_the_command_grants_prints_and_refuses(postgres_dsn: str, postgres_schema: str) -> None:
    command = CliRunner()
    url = f"{postgres_dsn}&schema={postgres_schema}"
    assert command.invoke(main, ["migrate", "--storage", url]).exit_code == 0
    done = command.invoke(main, ["grant", "--storage", url, "--reader", "postgres", "--worker", "postgres"])
    assert (done.exit_code, done.output) == (
        0,
        "granted postgres the rights of a reader\ngranted postgres the rights of a worker\n",
    )
    printed = command.invoke(main, ["grant", "--storage", url, "--sql", "--producer", "web"])
    assert printed.exit_code == 0
    assert f'GRANT USAGE ON SCHEMA "{postgres_schema}" TO "web";' in printed.output
    assert command.invoke(main, ["grant", "--storage", url]).exit_code == 2
    refused = command.invoke(main, ["grant", "--storage", "memory://", "--reader", "web"])
    assert (refused.exit_code, refused.output) == (
        1,
        "Error: roles exist only in PostgreSQL: use a storage URL that begins with postgresql://\n",
    )
