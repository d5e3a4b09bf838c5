"""A throwaway Redis for rivals: every write is on disk before it is acknowledged."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from meters import Meter, ProcessMeter
from stores import Store

SETTINGS = {"appendonly": "yes", "appendfsync": "always"}
"""As durable as the other storages. By default, a crash of Redis loses all writes after its last snapshot."""


class RedisStore(Store):
    """A throwaway server; each target is the emptied server."""

    kind = "redis"

    @staticmethod
    def available() -> bool:
        """Return whether this machine has a Redis server."""
        return shutil.which("redis-server") is not None

    def __enter__(self) -> RedisStore:
        """Start the server on a free port of this machine, and return when it answers."""
        self._folder = tempfile.mkdtemp(prefix="jobq-redis-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        words = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self._port), "--dir", self._folder, *words]
        with Path(self._folder, "log").open("wb") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        until = time.monotonic() + 10
        while True:
            try:
                self._say("PING")
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    self.__exit__()
                    raise
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, *error: object) -> None:
        """Stop it."""
        self._server.kill()
        self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _say(self, *words: str) -> str:
        """Send a command and return its short answer."""
        parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall("".join(parts).encode())
            return connection.recv(65_536).decode()

    def create(self, copy_of: str | None = None) -> str:
        """Empty the server. Copies are not supported."""
        if copy_of is not None:
            raise NotImplementedError("a Redis server's jobs cannot be copied")
        self._say("FLUSHALL")
        return f"redis://127.0.0.1:{self._port}/0"

    def meter(self, url: str) -> Meter:
        """Return what measures the server's process."""
        return ProcessMeter(self._server.pid)

    def facts(self) -> dict[str, Any]:
        """Ask the server."""
        lines = self._say("INFO", "server").splitlines()
        version = next(line.split(":")[1] for line in lines if line.startswith("redis_version"))
        return {"Redis": version, "settings": SETTINGS}
