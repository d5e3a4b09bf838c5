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
from jobq_server.commands import server
from jobq_worker.commands import worker

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


def test_its_options_are_those_of_jobq_worker_but_the_number_of_workers() -> None:
    ours = {parameter.name for parameter in server.params}
    theirs = {parameter.name for parameter in worker.params}
    assert ours - theirs == {"worker_count"}
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'MODULE"),
        (["MODULE"], "JOBQ_STORAGE"),
        (["no_such_module", "--storage", "memory://"], "there is no module 'no_such_module'"),
        (["MODULE", "--storage", "memory://", "--workers", "-1"], "not in the range 0<=x<=100000"),
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
