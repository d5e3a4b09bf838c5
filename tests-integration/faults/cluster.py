"""Replicated servers, and servers on a small disk: helpers that change the data directory of a `ThrowawayPostgres`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import disks
import psycopg

from jobq_storage_postgres.testing import ThrowawayPostgres
from jobq_storage_postgres.testing.binaries import find

DURABLE = {"fsync": "on", "full_page_writes": "on", "deadlock_timeout": "200ms"}


def folder_of(server: ThrowawayPostgres) -> Path:
    """Return the folder that holds a server's sockets and its data directory, named `data`."""
    return Path(parse_qs(urlsplit(server.dsn).query)["host"][0])


def either(*servers: ThrowawayPostgres, **options: object) -> str:
    """Return a URL that leads to the one of the servers that accepts writes."""
    hosts = ",".join(str(folder_of(server)) for server in servers)
    query = "".join(f"&{name}={value}" for name, value in options.items())
    return f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write{query}"


@contextmanager
def standby_of(primary: ThrowawayPostgres) -> Iterator[ThrowawayPostgres]:
    """Run a hot standby that follows `primary` by streaming replication under the name 'standby'."""
    binaries = find()
    assert isinstance(binaries, Path), "a standby needs the server's binaries"
    with ThrowawayPostgres(settings=DURABLE) as standby:
        standby.halt()
        data = folder_of(standby) / "data"
        owner = data.stat()
        shutil.rmtree(data)
        copied = subprocess.run(
            [
                *(binaries / "pg_basebackup", "--dbname", f"{primary.dsn}&application_name=standby"),
                *("--pgdata", data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert copied.returncode == 0, copied.stderr
        for path in (data, *data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        standby.start()
        yield standby


def set_synchronous(primary: psycopg.Connection[object], names: str) -> None:
    """Make commits on the primary wait for the standbys with these names; '' turns the wait off."""
    primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
    primary.execute("SELECT pg_reload_conf()")


@contextmanager
def on_small_disk(part: str, megabytes: int, **settings: str) -> Iterator[tuple[ThrowawayPostgres, Path]]:
    """Run a server that has one part of its data directory, 'base' or 'pg_wal', on a separate disk; yield both.

    Needs root and permission to mount a tmpfs.
    """
    server = ThrowawayPostgres(settings={**DURABLE, **settings})
    server.start()
    try:
        folder = folder_of(server) / "data" / part
        server.halt()
        aside = folder.with_name(f"{part}-aside")
        folder.rename(aside)
        folder.mkdir(mode=0o700)
        with disks.small(folder, megabytes):
            try:
                shutil.copytree(aside, folder, dirs_exist_ok=True)
                owner = aside.stat()
                for path in (folder, *folder.rglob("*")):
                    os.chown(path, owner.st_uid, owner.st_gid)
                shutil.rmtree(aside)
                server.start()
                yield server, folder
            finally:
                if server.running:
                    server.halt(at_once=True)
    finally:
        server.stop()
