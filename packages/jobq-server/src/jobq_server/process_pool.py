"""`ProcessPool`: the worker processes of a server with `processes=N`, and the thread that supervises them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

import attrs

from jobq_core.errors import ConfigurationError
from jobq_core.job import Job
from jobq_core.registry import Registry
from jobq_server.autoscaling.options import Autoscaler
from jobq_server.autoscaling.process_scaling import ProcessScaling
from jobq_server.autoscaling.scaling import ScalingStats
from jobq_worker import WorkerOptions
from jobq_worker.processes.supervisor import SECOND_SIGNAL_SECONDS, Supervisor
from jobq_worker.processes.supervisor_loop import CHILD_MODULE, ChildProcess, SupervisorLoop

logger = logging.getLogger("jobq.worker")

NOT_SENT: Final = ("jobs", "limiter", "retention")
"""Options that have no JSON form."""


class ProcessPool:
    """Starts worker processes for the jobs of a server, and stops them.

    Each process imports the modules of the jobs and runs a worker with the server's options. Raises ConfigurationError
    for what cannot reach a process: jobs that a program declares in its main module, a limiter, a retention, memory.

    count: how many it starts. storage: its URL. autoscaler: scales the workers of each process, and with max_processes
    the processes.
    """

    def __init__(
        self,
        count: int,
        options: WorkerOptions,
        queues: Sequence[str],
        storage: Any,
        autoscaler: Autoscaler | None = None,
    ) -> None:
        if not isinstance(storage, str) or storage.lower().startswith("memory:"):
            raise ConfigurationError(
                "processes open the storage themselves: give its URL, such as sqlite:///jobs.db or postgresql://host/db"
            )
        for name in ("limiter", "retention"):
            if getattr(options, name):
                raise ConfigurationError(
                    f"{name} cannot be passed to processes; run one server in each process instead"
                )
        self.storage = storage
        self._count = count
        self._options = options
        self._task = {
            "path": sys.path,
            "modules": modules_of(options.jobs),
            "kinds": [job.definition.kind for job in options.jobs],
            "storage": storage,
            "options": {
                field.name: getattr(options, field.name)
                for field in attrs.fields(WorkerOptions)
                if field.name not in NOT_SENT
            }
            | {"queues": list(queues)},
            "level": logging.getLevelName(logger.getEffectiveLevel()),
        }
        self._module = CHILD_MODULE
        if autoscaler is not None:
            self._task["autoscale"] = attrs.asdict(autoscaler)
            self._module = "jobq_server.child"
        self._autoscaler = autoscaler
        self._scaling: ProcessScaling | None = None
        self._supervisor: Supervisor | None = None
        self._loop: SupervisorLoop | None = None
        self._ended: asyncio.Future[int] | None = None

    async def start(self) -> None:
        """Start the processes, and wait until each has a running worker. Raises ConfigurationError if they fail."""
        loop = asyncio.get_running_loop()
        served, ended = asyncio.Event(), loop.create_future()

        def look() -> None:
            if supervisor.serves and not served.is_set():
                loop.call_soon_threadsafe(served.set)
            if self._scaling is not None:
                self._scaling.step()

        def run() -> None:
            try:
                code = supervision.run()
            except Exception:
                logger.exception("the supervisor of the processes failed unexpectedly; they stop")
                code = 1
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(ended.set_result, code)

        supervisor = Supervisor(
            lambda number: ChildProcess(number, self._task, self._module),
            self._count,
            lost_after=self._options.lost_after,
            stop_timeout=self._options.stop_timeout,
        )
        if self._autoscaler is not None and self._autoscaler.scales_processes:
            self._scaling = ProcessScaling(self._autoscaler, supervisor, self._options.name)
        supervision = SupervisorLoop(supervisor, stepped=look)
        self._supervisor, self._loop, self._ended = supervisor, supervision, ended
        threading.Thread(target=run, name="jobq-supervisor", daemon=True).start()
        serving = loop.create_task(served.wait())
        try:
            await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop(0)
            raise
        finally:
            serving.cancel()
        if ended.done() and not served.is_set():
            raise ConfigurationError(
                f"the processes could not start: the first ended with code {ended.result()}, and its log says why"
            )

    async def wait(self) -> int:
        """Wait until all processes have ended by themselves or by `stop`; return the exit code."""
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def stop(self, timeout: float | None = None) -> int:
        """Stop the processes as on SIGTERM, and once more after `timeout` seconds; return the exit code."""
        assert self._ended is not None
        self.begin_stop()
        if timeout is not None:
            await asyncio.wait([self._ended], timeout=max(timeout, SECOND_SIGNAL_SECONDS))
            self.begin_stop()
        return await self.wait()

    def begin_stop(self) -> None:
        """Stop the processes as on SIGTERM, and their running jobs at a second call, if they run."""
        if self._loop is not None and self._ended is not None and not self._ended.done():
            self._loop.stop("stop()")

    def pids(self) -> frozenset[int]:
        """Return the ids of the running processes."""
        return frozenset() if self._supervisor is None else frozenset(p.pid for p in self._supervisor.processes())

    @property
    def scaling(self) -> ScalingStats | None:
        """What is done to the number of processes; None if nothing is."""
        return None if self._scaling is None else self._scaling.stats

    @property
    def serves(self) -> bool:
        """Whether the worker of each process runs."""
        return self._supervisor is not None and self._supervisor.serves


def modules_of(jobs: Sequence[type[Job[Any]]]) -> list[str]:
    """Return the modules that declare jobs. Raises ConfigurationError for jobs that no other process can import."""
    for job in jobs:
        module = sys.modules.get(job.__module__)
        if job.__module__ == "__main__" or module is None or Registry(module).get(job.definition.kind) is None:
            raise ConfigurationError(
                f"job {job.definition.kind!r} is declared in the main module or in a function, which other processes "
                "cannot import; declare it in a module, such as shop/jobs.py"
            )
    return list(dict.fromkeys(job.__module__ for job in jobs))
