"""Debian's PgBouncer in transaction mode in front of a throwaway server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from jobq_storage_postgres.testing import account, keeper

_REMEDY = "install PgBouncer where PATH or /usr/sbin shows it (Debian: apt-get install pgbouncer)"

_CONFIGURATION = """\
[databases]
* = {target}

[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = {mode}
max_client_conn = 500
default_pool_size = 20
"""


class NoPoolerError(RuntimeError):
    """PgBouncer is not available."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; {_REMEDY}")


def find_pgbouncer() -> Path:
    """Return the path of PgBouncer. Raises NoPoolerError."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise NoPoolerError("pgbouncer was not found")
    return Path(found)


class Pooler:
    """A PgBouncer in front of the server of `dsn`, which ends with the `with` block or with this process.

    mode: 'transaction' (default) or 'session'.
    """

    def __init__(self, dsn: str, mode: str = "transaction") -> None:
        self._mode = mode
        given = conninfo_to_dict(dsn)
        target = {"host": given["host"], "port": given.get("port") or 5432, "user": given.get("user") or "postgres"}
        self._target = " ".join(f"{name}={value}" for name, value in target.items())
        self._program = find_pgbouncer()
        self._folder = Path(tempfile.mkdtemp(prefix="jobq-pgb-")).resolve()
        self._keeper: subprocess.Popen[bytes] | None = None
        self.dsn = f"postgresql://postgres@/{given.get('dbname') or 'postgres'}?host={self._folder}&port=6432"
        """The DSN of the same database through PgBouncer."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start PgBouncer, and return once a connection through it answers. Raises NoPoolerError."""
        # PgBouncer refuses to run as root and must reach the server's socket, so it runs as the server's user.
        who = next((one for one in account.accounts() if one.can_run(self._program)), None)
        if who is None:
            raise NoPoolerError(f"{self._program} cannot be run")
        who.own(self._folder)
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(target=self._target, mode=self._mode, folder=self._folder), encoding="utf-8"
        )
        order = {
            "command": [*who.prefix, str(self._program), str(configuration)],
            "user": who.user,
            "group": who.group,
            "folder": str(self._folder),
        }
        log = self._folder / "log"
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(keeper.__file__), json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > until or self._keeper.poll() is not None:
                    said = log.read_text(errors="replace")[-2000:]
                    self.stop()
                    raise NoPoolerError(f"{self._program} does not accept connections: {said}") from error
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """Kill PgBouncer, as a crash would."""
        running, self._keeper = self._keeper, None
        if running is None:
            return
        assert running.stdin is not None
        if running.poll() is None:
            running.stdin.write(f"{signal.SIGKILL.value}\n".encode())
            running.stdin.flush()
            running.wait()
        running.stdin.close()
