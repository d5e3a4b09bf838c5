"""A PostgreSQL server that lives as long as a `with` block, and no longer than the process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from jobq_storage_postgres.testing import templates
from jobq_storage_postgres.testing.account import Account, accounts
from jobq_storage_postgres.testing.binaries import NoPostgresError, copy_wheel, find

_SETTINGS = {
    "fsync": "off",  # the data is not needed after a power cut
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "listen_addresses": "",  # a socket in a folder of its own: no port to race for, and no access for others
    "max_connections": "200",
    "shared_buffers": "32MB",
}


class ThrowawayPostgres:
    """A PostgreSQL server for tests: a context manager, or `start` and `stop`.

    `source` is a DSN, `machine` or `wheel`; the default is JOBQ_TEST_POSTGRES, else what is available. `settings` add
    to or replace those that make the server quick and small. A server given by a DSN is neither started nor stopped.
    """

    def __init__(self, source: str | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._source = source
        self._settings = {**_SETTINGS, **(settings or {})}
        self._server: _Server | None = None
        self._dsn: str | None = None
        self._version = 0

    @property
    def dsn(self) -> str:
        """The URL of a database that tests may fill; known once the server is started."""
        if self._dsn is None:
            raise RuntimeError("the server has an address only once it is started")
        return self._dsn

    @property
    def version(self) -> int:
        """The server's version as in libpq: 150016 is 15.16."""
        return self._version

    @property
    def running(self) -> bool:
        """Whether a server that was started here is still running."""
        return self._server is not None and self._server.running

    def start(self) -> None:
        """Start the server, also after it was halted or ended, and return once it answers.

        Raises NoPostgresError.
        """
        if self._server is None and self._dsn is None:
            found = find(self._source)
            if isinstance(found, str):
                self._dsn = found
            else:
                self._server = _Server(found)
                self._dsn = self._server.dsn
        if self._server is not None:
            self._server.start(self._settings)
        self._version = _ask_version(self.dsn)

    def halt(self, *, at_once: bool = False) -> None:
        """Stop the server and keep its data, as in an outage; `at_once` stops it as in a crash."""
        if self._server is None:
            raise RuntimeError("only a server that was started here can be halted")
        self._server.signal(signal.SIGQUIT if at_once else signal.SIGINT)

    def stop(self) -> None:
        """Stop the server and remove its data."""
        if self._server is not None:
            self._server.remove()
        self._server = self._dsn = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server:
    """A data directory, and the process that serves it when there is one."""

    def __init__(self, binaries: Path) -> None:
        # Resolved, as another user may not follow every link; short, as the length of a socket's path is limited.
        self._folder = Path(tempfile.mkdtemp(prefix="jobq-pg-")).resolve()
        self._keeper: subprocess.Popen[bytes] | None = None
        self.dsn = f"postgresql://postgres@/postgres?host={self._folder}"
        try:
            self._account, self._binaries = self._usable(binaries)
            self._account.own(self._folder)
            self._template = templates.find(self._account, self._binaries)
            self._copy_template()
        except BaseException:
            self.remove()
            raise

    def _usable(self, binaries: Path) -> tuple[Account, Path]:
        """Choose an account that can run the binaries, or a copy of them if only root may read their folder."""
        ways = accounts()
        for account in ways:
            if account.can_run(binaries / "postgres"):
                return account, binaries
        self._folder.chmod(0o755)
        copied = copy_wheel(binaries, self._folder / "install")
        for account in ways:
            if copied and account.can_run(copied / "postgres"):
                return account, copied
        raise NoPostgresError(f"{binaries / 'postgres'} cannot be run by {ways}")

    def _copy_template(self) -> None:
        copied = self._account.run("cp", "-Rp", self._template, self._folder / "data")
        if copied.returncode != 0:
            raise NoPostgresError(f"{self._template} cannot be copied: {copied.stdout.strip()}")

    @property
    def running(self) -> bool:
        """Whether the server has been started and has not ended."""
        return self._keeper is not None and self._keeper.poll() is None

    def start(self, settings: Mapping[str, str]) -> None:
        """Start the server under a keeper; returns once it answers."""
        if self.running:
            raise RuntimeError("the server is running already")
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()  # the server ended by itself
        values = {**settings, "unix_socket_directories": str(self._folder)}
        postgres = [self._binaries / "postgres", "-D", self._folder / "data"]
        order = {
            "command": [
                *self._account.prefix,
                *map(str, postgres),
                *(word for name, value in values.items() for word in ("-c", f"{name}={value}")),
            ],
            "user": self._account.user,
            "group": self._account.group,
            "folder": str(self._folder),
            "template": str(self._template.parent),
            "parent": os.getpid(),
        }
        log = self._folder / "log"
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", Path(__file__).with_name("keeper.py"), json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests, which then end the server themselves
            )
        if not self._answers(within=30):
            said = log.read_text(errors="replace")[-2000:]
            raise NoPostgresError(f"{postgres[0]} did not start: {said}")

    def _answers(self, within: float) -> bool:
        keeper = self._keeper
        assert keeper is not None
        until = time.monotonic() + within
        while time.monotonic() < until:
            try:
                psycopg.connect(self.dsn, connect_timeout=5).close()
            except psycopg.OperationalError:
                try:
                    keeper.wait(0.01)
                except subprocess.TimeoutExpired:
                    continue
                return False  # it has ended
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that ends the server, and wait until it has ended."""
        keeper = self._keeper
        if keeper is None or not self.running:
            raise RuntimeError("the server is not running")
        assert keeper.stdin is not None
        keeper.stdin.write(f"{number.value}\n".encode())
        keeper.stdin.flush()
        keeper.wait()
        keeper.stdin.close()
        self._keeper = None

    def remove(self) -> None:
        """End the server, if it runs, and remove the folder."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None
            keeper.stdin.close()
            keeper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _ask_version(dsn: str) -> int:
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            return connection.info.server_version
    except psycopg.OperationalError as exc:
        raise NoPostgresError(f"the server does not answer: {exc}") from exc
