"""`jobq server`, as far as one process can show it; tests-integration runs it as users do."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobq_core.commands import main
from jobq_server import Autoscaler, JobQueueServer
from jobq_server.autoscaling.options import ProcessAutoscaler
from jobq_server.commands import server
from jobq_worker.commands import worker
from jobq_worker.processes.link import Link
from jobq_worker.processes.supervisor import Supervisor

JOBS = """
from jobq_core import job

@job()
async def nothing() -> None: ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "jobs_of_the_server.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jobs_of_the_server", raising=False)
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    return "jobs_of_the_server"


def test_it_is_a_command_of_jobq() -> None:
    assert "server" in CliRunner().invoke(main, ["--help"]).output


def test_its_options_are_those_of_jobq_worker_but_for_the_number_of_workers() -> None:
    ours = {parameter.name for parameter in server.params}
    theirs = {parameter.name for parameter in worker.params}
    web = {name for name in ours if name is not None and name.startswith("web_")}
    scaling = {"min_workers", "max_workers", "min_processes", "max_processes", "target_wait"}
    assert ours - theirs - web == {"worker_count"} | scaling
    assert theirs - ours == {"concurrency"}


def test_it_serves_until_a_signal_and_logs_its_start_and_stop(module: str, caplog: Any) -> None:
    class Interrupting(threading.Thread):
        """Sends a signal as soon as the server has logged its start."""

        def run(self) -> None:
            while "started" not in caplog.text:
                threading.Event().wait(0.01)
            os.kill(os.getpid(), signal.SIGINT)

    thread = Interrupting(daemon=True)
    thread.start()
    with caplog.at_level("INFO"):
        arguments = ["server", module, "--storage", "memory://", "--workers", "3", "--queue", "a", "--queue", "b"]
        result = CliRunner().invoke(main, arguments)
    thread.join(20)
    assert result.exit_code == 0, result.output
    lines = [record.getMessage() for record in caplog.records if record.name == "jobq.worker"]
    assert len(lines) == 3
    assert "started: 3 at a time, queues a, b" in lines[1]
    assert "stopped" in lines[2]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[JobQueueServer]:
    """Have `jobq server` run nothing; the servers that it would run."""
    servers: list[JobQueueServer] = []
    monkeypatch.setattr("jobq_worker.commands.worker_command.run_worker", lambda server, link: servers.append(server))
    return servers


def test_its_options_make_an_autoscaler(
    module: str, served: list[JobQueueServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["server", module, "--storage", "memory://", "--max-workers", "30"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    monkeypatch.setenv("JOBQ_TARGET_WAIT", "2.5")
    assert CliRunner().invoke(main, [*arguments, "--min-workers", "12"]).exit_code == 0
    assert [server.autoscaler for server in served] == [Autoscaler(max=30), Autoscaler(min=12, max=30, target_wait=2.5)]
    assert [server.worker_count for server in served] == [10, 12]


@pytest.mark.parametrize(("more", "starts"), [([], 1), (["--min-processes", "2"], 2), (["--processes", "9"], 4)])
def test_with_max_processes_it_supervises_processes_and_scales_them(
    module: str, monkeypatch: pytest.MonkeyPatch, more: list[str], starts: int
) -> None:
    begun: list[Any] = []

    def supervise(count: int, *, scale: Any, **_: Any) -> int:
        supervisor = Supervisor(lambda number: pytest.fail("started"), count, lost_after=1, stop_timeout=1)
        begun.append((count, scale(supervisor).__self__.stats))
        return 0

    monkeypatch.setattr("jobq_worker.commands.worker_command.supervise_children", supervise)
    arguments = ["server", module, "--storage", "acme://", "--max-workers", "3", "--max-processes", "4", *more]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    ((count, stats),) = begun
    assert (count, stats.processes, stats.autoscaler.max_processes) == (starts, starts, 4)


def test_a_process_of_it_scales_its_workers_and_reports_its_load(module: str, served: list[JobQueueServer]) -> None:
    reported: list[Any] = []
    link = Link.__new__(Link)  # without a socket
    link.number, link.report = 2, reported.append  # type: ignore[method-assign]
    arguments = ["server", module, "--storage", "memory://", "--max-workers", "3", "--max-processes", "4"]
    assert CliRunner().invoke(main, arguments, obj=link).exit_code == 0
    (server,) = served
    assert (server.name.endswith("-2"), server.has_processes, server.worker_count) == (True, False, 3)
    assert isinstance(server.autoscaler, ProcessAutoscaler)
    server.autoscaler.report({"busy": 1})
    assert reported == [{"busy": 1}]


def test_its_autoscaler_replaces_that_of_a_named_server(
    module: str, served: list[JobQueueServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scaled_server.py").write_text(
        "from jobq_server import Autoscaler, JobQueueServer\n"
        f"import {module}\n"
        f"server = JobQueueServer('memory://', jobs={module}, autoscale=Autoscaler(max=20))\n"
    )
    monkeypatch.delitem(sys.modules, "scaled_server", raising=False)
    for more in ([], ["--max-workers", "7"]):
        assert CliRunner().invoke(main, ["server", "scaled_server:server", *more]).exit_code == 0
        assert served[-1].autoscaler == Autoscaler(max=7 if more else 20)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'MODULE"),
        (["MODULE"], "JOBQ_STORAGE"),
        (["no_such_module", "--storage", "memory://"], "there is no module 'no_such_module'"),
        (["MODULE", "--storage", "memory://", "--workers", "-1"], "not in the range 0<=x<=100000"),
        (["MODULE", "--storage", "memory://", "--max-workers", "0"], "not in the range 1<=x<=100000"),
        (["MODULE", "--storage", "memory://", "--min-workers", "3"], "--min-workers needs --max-workers"),
        (["MODULE", "--storage", "memory://", "--target-wait", "3"], "--target-wait needs --max-workers"),
        (["MODULE", "--storage", "memory://", "--max-processes", "3"], "--max-processes needs --max-workers"),
        (
            ["MODULE", "--storage", "memory://", "--max-workers", "3", "--min-processes", "2"],
            "min_processes of an Autoscaler (2) needs max_processes",
        ),
        (
            ["MODULE", "--storage", "memory://", "--max-workers", "3", "--max-processes", "2"],
            "memory:// is the memory of one process and cannot be shared",
        ),
        (
            ["MODULE", "--storage", "memory://", "--max-workers", "3", "--min-workers", "4"],
            "(4) must be at most its max",
        ),
        (["MODULE", "--storage", "memory://", "--max-workers", "3", "--target-wait", "0"], "target_wait must be more"),
        (["MODULE", "--storage", "memory://", "--lost-after", "1"], "lost_after (1.0 s) must be at least twice"),
        (["MODULE", "--storage", "nothing://"], "no installed storage opens nothing://"),
    ],
)
def test_an_error_is_one_line(module: str, arguments: list[str], said: str) -> None:
    given = [module if argument == "MODULE" else argument for argument in arguments]
    result = CliRunner().invoke(main, ["server", *given])
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
