"""A census of Python's standard library: one job per source file, three processes, one of them killed half way.

    python examples/census.py                                # on SQLite in a temporary folder
    python examples/census.py --storage postgresql:///shop   # on your Postgres, in its schema `jobq`

This process submits and watches. A second runs a JobQueueServer with four workers, a third a plain `jobq worker`. When
half the files are counted the plain worker is killed with SIGKILL; the server finds out, takes its jobs back and runs
them again. The report shows that every file was counted exactly once. It needs `jobq-server`, a storage and `rich`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import census_jobs
from census_jobs import QUEUE, Count, count_file, summarise
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobq_client import JobQueueClient
from jobq_core import JobRecord, JobState, open_storage
from jobq_server import JobQueueServer

LOST_AFTER = 3.0
"""Seconds without a heartbeat after which a worker is taken for lost; 30 is the default, a demo has less patience."""

HEARTBEAT_INTERVAL = 0.5

console = Console()


def main() -> None:
    """Read the command line and play the part it names."""
    parser = argparse.ArgumentParser(description="Count the source files of the standard library as jobs.")
    parser.add_argument("--storage", metavar="URL", help="sqlite:///… or postgresql://… (default: a temporary file)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.storage))
        return
    with tempfile.TemporaryDirectory(prefix="jobq-census-") as folder:
        storage = options.storage or f"sqlite:///{Path(folder).as_posix()}/census.db"
        ok = asyncio.run(census(storage))
    sys.exit(0 if ok else 1)


async def serve(storage: str) -> None:
    """Be the second process: a server with four workers, until SIGTERM."""
    server = JobQueueServer(
        storage,
        jobs=census_jobs,
        queues=[QUEUE],
        worker_count=4,
        heartbeat_interval=HEARTBEAT_INTERVAL,
        lost_after=LOST_AFTER,
    )
    await server.run()


async def census(storage: str) -> bool:
    """Be the first process: submit, watch, kill the plain worker half way, report. Returns whether all went well."""
    files = source_files()
    run_id = f"census-{uuid4()}"
    await open_storage(storage).migrate()
    console.print(
        f"[bold]{len(files)} source files[/] of Python {sys.version.split()[0]}, storage {storage.split(':')[0]}"
    )
    async with JobQueueClient(storage, queue=QUEUE) as client:
        with processes(storage) as plain:
            started = time.monotonic()
            await client.add_many([count_file(path=path) for path in files], run_id=run_id)
            submitted = time.monotonic() - started
            console.print(f"submitted in {submitted:.2f} s ({len(files) / submitted:,.0f} jobs/s); working")
            killed_at = await watch(client, run_id, len(files), plain)
            worked = time.monotonic() - started
            handle = await client.add(summarise(run_id=run_id, storage=storage), run_id=run_id)
            total = await client.wait_for(handle, timeout=30)
        records = [record async for record in client.find_all(run_id=run_id, kind="count_file")]
    return report(files, records, total, killed_at, worked)


def source_files() -> list[str]:
    """Return the paths of the standard library's source files."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted(str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts)


@contextlib.contextmanager
def processes(storage: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server and the plain worker; yields the worker, which is to be killed. Both are gone afterwards."""
    here = Path(__file__)
    environment = {**os.environ, "PYTHONPATH": str(here.parent), "JOBQ_STORAGE": storage}
    server = subprocess.Popen([sys.executable, str(here), "--serve", "--storage", storage], env=environment)
    worker = [sys.executable, "-m", "jobq_core", "worker", "census_jobs", "--queue", QUEUE, "--concurrency", "4"]
    worker += ["--name", "plain", "--lost-after", str(LOST_AFTER), "--heartbeat-interval", str(HEARTBEAT_INTERVAL)]
    plain = subprocess.Popen(worker, env=environment, cwd=here.parent)
    try:
        yield plain
    finally:
        for process in (server, plain):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in (server, plain):
            process.wait(timeout=60)


async def watch(client: JobQueueClient, run_id: str, total: int, plain: subprocess.Popen[bytes]) -> datetime:
    """Show a live bar until every file is counted; kill the plain worker half way, and return when that was."""
    killed_at: datetime | None = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} jobs/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("counting", total=total, rate=0.0)
        done = 0
        while done < total:
            counts = await client.counts()
            done = counts[JobState.COMPLETED] + counts[JobState.FAILED]
            elapsed = bar.tasks[task].elapsed or 1.0
            bar.update(task, completed=done, rate=done / elapsed)
            if killed_at is None and done >= total / 2 and await holds_jobs(client, run_id, "plain"):
                plain.kill()
                plain.wait()
                killed_at = await client.storage.now()
                bar.console.print(f"[red]killed the plain worker[/] (SIGKILL) after {done} of {total} files")
            await asyncio.sleep(0.1)
        bar.update(task, completed=done)
    if killed_at is None:
        raise RuntimeError("the plain worker never held a job in the second half: nothing was killed")
    return killed_at


async def holds_jobs(client: JobQueueClient, run_id: str, name: str) -> bool:
    """Say whether the worker of this name is running jobs now."""
    ids = {worker.info.id for worker in await client.storage.workers() if worker.info.name == name}
    page = await client.find(run_id=run_id, state=JobState.PROCESSING)
    return any(record.worker in ids for record in page.jobs)


def report(files: list[str], records: list[JobRecord], total: Count, killed_at: datetime, seconds: float) -> bool:
    """Print what was counted and what was recovered; returns whether each file was counted exactly once."""
    counted = [record.result["path"] for record in records if record.state is JobState.COMPLETED]
    once = sorted(counted) == files and total.files == len(files)
    recovered = [record for record in records if any("WorkerLostError" in a.error.type for a in record.attempts)]
    table = Table(title="Census of the standard library")
    table.add_column("what")
    table.add_column("how many", justify="right")
    for what, number in (
        ("files", total.files),
        ("lines", total.lines),
        ("functions", total.functions),
        ("classes", total.classes),
        ("imports", total.imports),
    ):
        table.add_row(what, f"{number:,}")
    table.add_section()
    table.add_row("seconds", f"{seconds:.1f}")
    table.add_row("jobs per second", f"{len(files) / seconds:,.0f}")
    table.add_row("counted exactly once", "[green]every file[/]" if once else "[red]NOT every file[/]")
    table.add_row("jobs recovered from the killed worker", str(len(recovered)))
    if recovered:
        taken_back = max(a.finished_at for record in recovered for a in record.attempts if "WorkerLost" in a.error.type)
        finished = max(record.finished_at for record in recovered if record.finished_at is not None)
        table.add_row("taken back after the kill", f"{(taken_back - killed_at).total_seconds():.1f} s")
        table.add_row("finished by the others after the kill", f"{(finished - killed_at).total_seconds():.1f} s")
    console.print(table)
    return once and bool(recovered)


if __name__ == "__main__":
    main()
