"""Fixtures for storages, and for child processes that end with their test."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from jobq_core import open_storage
from jobq_storage_postgres.testing import ThrowawayPostgres

SUPPORT = Path(__file__).parent / "support"
"""Modules that the tests and their child processes import."""

sys.path.insert(0, str(SUPPORT))

collect_ignore = ["faults"]
"""The faults have their own options and nox session: `pytest tests-integration/faults`."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: ThrowawayPostgres) -> Iterator[str]:
    """The URL of an empty database; one per test, since the processes of a test may leave jobs in it."""
    name = f"jobq_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield urlsplit(postgres_server.dsn)._replace(path=f"/{name}").geturl()
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a database file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def storage_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty storage that several processes can share; the test runs once for each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def migrated_url(storage_url: str) -> str:
    """The URL of such a storage with its tables; the test runs once for each kind."""
    await open_storage(storage_url).migrate()
    return storage_url


class Child:
    """A child process of a test, and its output so far."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.command = command
        self._lines: list[str] = []
        self._times: list[float] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,  # so that its own children can be killed with it
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._times.append(time.monotonic())
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """What the process has printed so far, errors included."""
        with self._changed:
            return "\n".join(self._lines)

    def times_of(self, pattern: re.Pattern[str]) -> list[float]:
        """Return when each line that matches the pattern arrived, by time.monotonic()."""
        with self._changed:
            lines = list(zip(self._lines, self._times, strict=True))
        return [at for line, at in lines if pattern.search(line)]

    def wait_for_line(self, pattern: str, timeout: float = 60, *, nth: int = 1) -> re.Match[str]:
        """Wait for the nth line that matches the pattern, even one from before the call; fail if the process ends
        first."""
        wanted = re.compile(pattern)
        seen = 0
        with self._changed:
            while True:
                for line in self._lines[seen:]:
                    if found := wanted.search(line):
                        nth -= 1
                        if nth == 0:
                            return found
                seen = len(self._lines)
                if self._ended or not self._changed.wait(timeout):
                    pytest.fail(f"{self.command} printed no line with {pattern!r}:\n" + "\n".join(self._lines))

    def wait(self, timeout: float = 60) -> int:
        """Wait until the process ends and its output is read; return its exit code, -9 if it was killed."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def terminate(self) -> None:
        """Ask the process to stop, as an operator would."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and its children, as a crash would. Does nothing if all have ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Children:
    """Starts processes with the interpreter and commands of the tests' environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Child] = []

    def python(self, *arguments: str | Path, **variables: str) -> Child:
        """Start Python with these arguments and these additional environment variables."""
        return self.start([sys.executable, *map(str, arguments)], variables)

    def jobq(self, *arguments: str | Path, **variables: str) -> Child:
        """Start the `jobq` command."""
        found = shutil.which("jobq", path=str(Path(sys.executable).parent))
        assert found, "the jobq command is not installed"
        return self.start([found, *map(str, arguments)], variables)

    def start(self, command: list[str], variables: dict[str, str]) -> Child:
        """Start a command, with these additional environment variables."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(SUPPORT), **variables}
        child = Child(command, environment, self._folder)
        self._all.append(child)
        return child

    def end(self) -> None:
        """Kill the running processes, and print the output of all: pytest shows it if the test fails."""
        for child in self._all:
            child.kill()
            print(f"--- {' '.join(child.command)}: exit code {child.wait()}\n{child.output}")


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Start child processes in a temporary folder; all are killed when the test ends."""
    started = Children(tmp_path)
    yield started
    started.end()
