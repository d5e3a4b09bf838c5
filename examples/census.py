"""A census of Python's standard library: one job per source file, three processes, one of which is killed half way.

    python examples/census.py                                # on SQLite in a temporary folder
    python examples/census.py --storage postgresql:///shop   # on your PostgreSQL, in the schema `jobq`

This process adds the jobs and shows their progress. A second process runs a JobQueueServer with four workers, a third a
plain `jobq worker`. When half of the files are counted, the plain worker is killed with SIGKILL; the server rescues its
jobs and runs them again. The report shows that every file was counted exactly once, and how many no-op jobs a worker
drains on this machine in three seconds. It needs `jobq-server`, a storage and `rich`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import sysconfig
import tempfile
import time
from asyncio.subprocess import Process
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import census_jobs
from census_jobs import QUEUE, Count, count_file, summarise
from census_processes import HEARTBEAT_INTERVAL, HERE, LOST_AFTER, processes
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobq_client import JobQueueClient
from jobq_core import JobRecord, JobState, open_storage
from jobq_server import JobQueueServer

console = Console()


def main() -> None:
    """Read the command line and run the census, or the server as its child process."""
    parser = argparse.ArgumentParser(description="Count the source files of the standard library as jobs.")
    parser.add_argument("--storage", metavar="URL", help="sqlite:///… or postgresql://… (default: a temporary file)")
    parser.add_argument("--files", metavar="N", type=int, help="count only the first N files (default: all)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(os.environ["JOBQ_STORAGE"]))
        return
    with tempfile.TemporaryDirectory(prefix="jobq-census-") as folder:
        storage = options.storage or f"sqlite:///{Path(folder).as_posix()}/census.db"
        ok = asyncio.run(census(storage, source_files()[: options.files]))
    sys.exit(0 if ok else 1)


async def serve(storage: str) -> None:
    """Run a server with four workers until SIGTERM."""
    server = JobQueueServer(
        storage,
        jobs=census_jobs,
        queues=[QUEUE],
        worker_count=4,
        heartbeat_interval=HEARTBEAT_INTERVAL,
        lost_after=LOST_AFTER,
    )
    await server.run()


async def census(storage: str, files: list[str]) -> bool:
    """Add the jobs, show their progress, kill the plain worker half way, and report. Return whether all went well."""
    run_id = f"census-{uuid4()}"
    await open_storage(storage).migrate()
    console.print(
        f"[bold]{len(files)} source files[/] of Python {sys.version.split()[0]}, storage {storage.split(':')[0]}"
    )
    async with JobQueueClient(storage, queue=QUEUE) as client:
        async with processes(storage, console) as plain:
            started = time.monotonic()
            await client.add_many([count_file(path=path) for path in files], run_id=run_id)
            killed_at = await watch(client, run_id, len(files), plain)
            worked = time.monotonic() - started
            handle = await client.add(summarise(run_id=run_id, storage=storage), run_id=run_id)
            total = await client.wait_for(handle, timeout=30)
        found = [job.id async for job in client.find_all(run_id=run_id, kind="count_file")]
        records = list(filter(None, await client.storage.get(found)))
    with console.status("draining no-op jobs"):
        noops, drained = await drain(storage)
    ok = report(files, records, total, killed_at)
    console.print(
        f"[bold]{len(files) / worked:,.0f} files a second[/], each read and parsed, by 8 threads in 2 processes, "
        "with the outage of the killed worker"
    )
    console.print(
        f"[bold]{noops / drained:,.0f} no-op jobs a second[/] drained by one worker on this machine: "
        f"{noops:,} in {drained:.1f} seconds"
    )
    return ok


def source_files() -> list[str]:
    """Return the paths of the standard library's source files."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted(str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts)


async def watch(client: JobQueueClient, run_id: str, total: int, plain: Process) -> datetime:
    """Show a progress bar until every file is counted. Kill the plain worker half way, and return when that was."""
    killed_at: datetime | None = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} files/s"),
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
                await plain.wait()
                killed_at = await client.storage.now()
                console.print(f"[red]killed the plain worker[/] (SIGKILL) after {done} of {total} files")
            await asyncio.sleep(0.1)
        bar.update(task, completed=done)
    if killed_at is None:
        raise RuntimeError("the plain worker held no job in the second half, so it was not killed")
    return killed_at


async def holds_jobs(client: JobQueueClient, run_id: str, name: str) -> bool:
    """Return whether the worker of this name is running jobs now."""
    ids = {worker.info.id for worker in await client.storage.workers() if worker.info.name == name}
    page = await client.find(run_id=run_id, state=JobState.PROCESSING)
    return any(record.worker in ids for record in page.jobs)


async def drain(storage: str) -> tuple[int, float]:
    """Have a process drain no-op jobs, and return how many, and in how many seconds."""
    command = [sys.executable, str(HERE / "census_drain.py"), storage]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    measured = json.loads(output)
    return measured["jobs"], measured["seconds"]


def report(files: list[str], records: list[JobRecord], total: Count, killed_at: datetime) -> bool:
    """Print the counts and the rescued jobs, and return whether each file was counted exactly once."""
    counted = [record.result["path"] for record in records if record.state is JobState.COMPLETED]
    once = sorted(counted) == files and total.files == len(files)
    rescued = [record for record in records if any("WorkerLostError" in a.error.type for a in record.attempts)]
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
    table.add_row("counted exactly once", "[green]every file[/]" if once else "[red]NOT every file[/]")
    table.add_row("jobs rescued from the killed worker", str(len(rescued)))
    if rescued:
        rescued_at = max(a.finished_at for record in rescued for a in record.attempts if "WorkerLost" in a.error.type)
        finished = max(record.finished_at for record in rescued if record.finished_at is not None)
        table.add_row("rescued after the kill", f"{(rescued_at - killed_at).total_seconds():.1f} s")
        table.add_row("finished by the server after the kill", f"{(finished - killed_at).total_seconds():.1f} s")
    console.print(table)
    return once and bool(rescued)


if __name__ == "__main__":
    main()
