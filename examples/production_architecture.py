"""jobq as it is deployed: an app, a server and two workers as separate processes, with one storage.

    python examples/production_architecture.py                                # on SQLite in a temporary folder
    python examples/production_architecture.py --storage postgresql:///shop   # on your PostgreSQL, in the schema `jobq`

The work is real, but small: some packages of the standard library are packed into an archive and verified.

    app (this process)   adds a `Pack` job for each file, and a `verify` job for each packed file
    server               runs `Pack`, for which only it has the handler; scales its pool by the jobs that wait
    two workers          plain `jobq worker` processes, run `verify`

One file does not exist: its job becomes a dead letter, which the summary shows and the exit code expects. At the end
the app stops all processes with SIGTERM, as a service manager would, and the summary shows their exit codes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import production_jobs
from production_jobs import PACK_QUEUE, VERIFY_QUEUE, Pack, Packed, verify

from jobq_client import JobHandle, JobQueueClient
from jobq_core import (
    JobContext,
    JobState,
    JobSummary,
    PermanentJobError,
    Retention,
    open_storage,
)
from jobq_server import Autoscaler, JobQueueServer

MISSING = "there-is-no-such-file.py"
MOST_WORKERS = 8
RETENTION = Retention(completed=3600, failed=3600, aborted=3600)


def main() -> int:
    """Run the part that the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(description="Pack and verify files with an app, a server and two workers.")
    parser.add_argument("--storage", metavar="URL", help="sqlite:///… or postgresql://… (default: a temporary file)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.storage))
        return 0
    with tempfile.TemporaryDirectory(prefix="jobq-production-") as folder:
        storage = options.storage or f"sqlite:///{Path(folder).as_posix()}/jobs.db"
        archive = Path(folder, "archive")
        archive.mkdir()
        return asyncio.run(app(storage, archive))


# The server: the only process that can pack


async def serve(storage: str) -> None:
    """Run a pool for the `Pack` queue until SIGTERM, scaled by the jobs that wait."""
    logging.basicConfig(level=logging.INFO, format="server: %(message)s")
    server = JobQueueServer(
        storage,
        queues=[PACK_QUEUE],
        name="server",
        worker_count=1,
        autoscale=Autoscaler(max=MOST_WORKERS, target_wait=0.2, interval=0.1),
        retention=RETENTION,
    )
    server.handles(Pack)(pack)
    await server.run()


def pack(job: Pack, context: JobContext) -> Packed:
    """Handle `Pack`. A second run, after a crash, replaces the file of the first one, so it does no harm."""
    try:
        data = Path(job.source).read_bytes()
    except FileNotFoundError as error:
        raise PermanentJobError(f"no file {job.source}") from error
    context.progress(50, "read")
    target = Path(job.archive, f"{context.job_id}.gz")
    packed = gzip.compress(data)
    unfinished = target.with_suffix(f".{context.lease}")  # each run writes its own file, then moves it in place
    unfinished.write_bytes(packed)
    unfinished.replace(target)
    return Packed(path=str(target), sha256=hashlib.sha256(data).hexdigest(), before=len(data), after=len(packed))


# The app: adds jobs, waits for results, runs nothing


async def app(storage: str, archive: Path) -> int:
    """Add the jobs, wait for them, report, and return the exit code."""
    tables = open_storage(storage)  # migrates before it opens the storage
    await tables.migrate()
    await tables.close()
    run_id = f"example-{uuid4()}"
    started = time.monotonic()
    with processes(storage) as running:
        async with JobQueueClient(storage) as client:
            await until_up(client, running)
            jobs = [Pack(source=str(path), archive=str(archive)) for path in sources()]
            handles = await client.add_many(jobs, run_id=run_id)
            print(f"app: added {len(handles)} jobs under run {run_id}")
            verified = await asyncio.gather(*(follow_up(client, handle, run_id) for handle in handles))
            records = [record async for record in client.find_all(run_id=run_id)]
        seconds = time.monotonic() - started
    return report(verified, records, running, seconds)


async def until_up(client: JobQueueClient, running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait until all processes are registered, so that each takes part in the work and handles SIGTERM at the end."""
    own = {process.pid for process in running.values()}
    while not own <= {worker.info.pid for worker in await client.storage.workers()}:
        for name, process in running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} did not start: it ended with {process.returncode}")
        await asyncio.sleep(0.1)


def sources() -> list[Path]:
    """Return the files to pack: Python's json, email and asyncio packages, and one file that does not exist."""
    root = Path(json.__file__).parent
    packages = [root, root.parent / "email", root.parent / "asyncio"]
    return [*(path for package in packages for path in sorted(package.glob("*.py"))), root / MISSING]


async def follow_up(client: JobQueueClient, handle: JobHandle[Packed], run_id: str) -> Packed | None:
    """Wait until a file is packed, then until it is verified. Return None if it could not be packed."""
    try:
        packed = await handle.result(timeout=120)
    except PermanentJobError as error:
        print(f"app: {error}")
        return None
    # With the unique key, an archive file is verified once even if this function is called twice for it.
    check = await client.add(verify(packed), unique=f"verify {packed.path}", priority=5, run_id=run_id)
    await check.result(timeout=120)
    return packed


@contextlib.contextmanager
def processes(storage: str) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run the server and the workers, and yield them by name; on exit all have stopped, with exit codes."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(here), "JOBQ_STORAGE": storage}
    worker = [sys.executable, "-m", "jobq_core", "worker", production_jobs.__name__, "--queue", VERIFY_QUEUE]
    commands = {
        "server": [sys.executable, __file__, "--serve", "--storage", storage],
        "worker-1": [*worker, "--concurrency", "2", "--name", "worker-1"],
        "worker-2": [*worker, "--concurrency", "2", "--name", "worker-2"],
    }
    running = {name: subprocess.Popen(command, env=environment) for name, command in commands.items()}
    try:
        yield running
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def report(
    verified: list[Packed | None],
    records: list[JobSummary],
    running: dict[str, subprocess.Popen[bytes]],
    seconds: float,
) -> int:
    """Print the summary, and return 0 if the results are as expected, otherwise 1."""
    packed = [each for each in verified if each is not None]
    dead = [record for record in records if record.state is JobState.FAILED]
    before, after = sum(each.before for each in packed), sum(each.after for each in packed)
    print(f"\npacked and verified   {len(packed)} files, {before:,} bytes into {after:,}")
    print(f"jobs                  {len(records)} in {seconds:.1f} s, {len(packed) * 2 + 1} expected")
    for record in dead:
        print(f"dead letter           {record.kind}: {record.error.message if record.error else '?'}")
    for name, process in running.items():
        print(f"{name:<21} ended with {process.returncode}")
    ok = (
        len(records) == len(packed) * 2 + 1
        and len(dead) == 1
        and all(process.returncode == 0 for process in running.values())
    )
    print("all is well" if ok else "NOT as expected")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
