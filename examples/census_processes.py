"""The child processes of the census, whose output is printed above the progress bar instead of into it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path

from census_jobs import QUEUE
from rich.console import Console

LOST_AFTER = 3.0
"""Seconds without a heartbeat after which a worker is lost. The default of 30 is too long for a demo."""

HEARTBEAT_INTERVAL = 0.5
"""Seconds between two heartbeats."""

HERE = Path(__file__).parent


@contextlib.asynccontextmanager
async def processes(storage: str, console: Console) -> AsyncIterator[Process]:
    """Run the server and the plain worker, and yield the worker; on exit both are stopped."""
    worker = ["-m", "jobq_core", "worker", "census_jobs", "--queue", QUEUE, "--concurrency", "4", "--name", "plain"]
    worker += ["--lost-after", str(LOST_AFTER), "--heartbeat-interval", str(HEARTBEAT_INTERVAL)]
    server = [str(HERE / "census.py"), "--serve"]
    async with child("server", server, storage, console), child("plain", worker, storage, console) as plain:
        yield plain


@contextlib.asynccontextmanager
async def child(name: str, arguments: list[str], storage: str, console: Console) -> AsyncIterator[Process]:
    """Run Python with these arguments, and print each line of its output with its name; SIGTERM stops it on exit."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PYTHONUNBUFFERED": "1", "JOBQ_STORAGE": storage}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment
    )
    printing = asyncio.create_task(print_lines(name, process, console))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()
        await printing


async def print_lines(name: str, process: Process, console: Console) -> None:
    """Print the process's output until it ends. The console moves the progress bar down for each line."""
    assert process.stdout is not None
    async for line in process.stdout:
        text = line.decode(errors="replace").rstrip()
        console.print(f"{name:>8} │ {text}", style="dim", markup=False, highlight=False)
