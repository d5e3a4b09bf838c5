"""`jobq worker` as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobq_worker.commands import worker
from jobq_worker.processes.exits import ExitCode
from jobq_worker.processes.signals import SAME_SECONDS

JOBS = """
import asyncio, os, sys, time
from jobq_core import job

@job()
async def hello() -> str:
    return "hello"
"""

# Jobs that are there when the worker starts, since nobody outside can add to memory.
BUSY = """
import asyncio, ctypes, multiprocessing, threading, time, warnings
import jobq_core.memory.storage as memory
from jobq_core import job
from jobq_core.ids import new_id
from jobq_core.adding import new_job

@job()
async def hang() -> None:
    print("running", flush=True)
    await asyncio.Event().wait()

@job()
async def deaf() -> None:
    print("running", flush=True)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

@job()
async def leaves_a_thread() -> None:
    print("running", flush=True)
    await asyncio.to_thread(time.sleep, 600)

@job(max_attempts=1, timeout=0.01)
def hung() -> None:
    time.sleep(600)

@job(max_attempts=1)
async def fail() -> None:
    raise ValueError("no such file")

@job()
async def blocked() -> None:
    print("running", flush=True)
    time.sleep(600)

@job()
async def blocked_in_c() -> None:
    print("running", flush=True)
    ctypes.CDLL(None).sleep(10)  # which a signal interrupts: the loop goes on at once in another such call
    while True:
        ctypes.CDLL(None).sleep(10)

def sleep():
    time.sleep(600)

@job()
def forks() -> None:
    warnings.simplefilter("ignore")  # forking beside threads is what this is about
    child = multiprocessing.get_context("fork").Process(target=sleep)
    child.start()
    child.terminate()  # at once: it may not have its own handlers yet
    child.join()
    print("ended with", child.exitcode, flush=True)

def fill(kind):
    opened = memory.MemoryQueueStorage.open
    async def open(self):
        await opened(self)
        await self.add([new_job(new_id(), kind(), "default", {})])
    memory.MemoryQueueStorage.open = open
"""

Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start `jobq worker` in a folder with the modules `jobs` and `busy`."""
    (tmp_path / "jobs.py").write_text(JOBS)
    for kind in (
        "hang",
        "deaf",
        "leaves_a_thread",
        "hung",
        "fail",
        "blocked",
        "blocked_in_c",
        "forks",
    ):
        (tmp_path / f"busy_{kind}.py").write_text(f"{BUSY}\nfill({kind})\n")
    started = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobq_core", "worker", "--storage", "memory://", *args],
            cwd=tmp_path,
            env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for_line(stream: object, pattern: str) -> str:
    for line in stream:  # type: ignore[attr-defined]
        if re.search(pattern, line):
            return str(line)
    raise AssertionError(f"no line like {pattern!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_says_so_in_a_line_at_start_and_at_stop(
    launch: Launch, number: signal.Signals
) -> None:
    process = launch("jobs", "--queue", "mail", "--queue", "images", "--concurrency", "3", "--name", "w1")
    assert process.stderr is not None
    line = wait_for_line(process.stderr, "started")
    assert "worker w1 (" in line
    assert "started: 3 at a time, queues mail, images, on memory://" in line
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == ""
    assert re.fullmatch(r".* INFO worker w1 \(.*\) stopped: 0 completed, 0 failed, 0 retried, 0 released\n", err)


def test_a_second_signal_stops_now(launch: Launch) -> None:
    process = launch("busy_hang", "--stop-timeout", "600")
    assert process.stdout is not None
    wait_for_line(process.stdout, "running")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(SAME_SECONDS + 0.1)  # it lets the job run
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "1 released" in err


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("deaf", ["(deaf) was asked to stop and is still running; it is not released", "0 released"]),
        ("leaves_a_thread", ["handlers keep the process from ending"]),
    ],
)
def test_what_a_coroutine_goes_on_with_does_not_keep_the_process_alive(
    launch: Launch, kind: str, said: list[str]
) -> None:
    process = launch(f"busy_{kind}", "--stop-timeout", "0.1")
    assert process.stdout is not None
    wait_for_line(process.stdout, "running")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.RUNS_LEFT
    for part in said:
        assert part in err


def test_a_worker_with_too_many_hung_handlers_exits_where_it_is_told_to(launch: Launch) -> None:
    process = launch("busy_hung", "--max-hung", "0", "--exit-when-hung")
    _, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.HUNG
    assert "1 handlers keep running past their time limit, more than max_hung allows" in err


def test_a_worker_whose_output_is_closed_goes_on_and_stops_in_order(launch: Launch) -> None:
    process = launch("busy_hang", "--stop-timeout", "0.1", "--log-level", "debug")
    assert process.stdout is not None
    assert process.stderr is not None
    wait_for_line(process.stdout, "running")
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_two_signals_at_once_count_as_one(launch: Launch) -> None:
    process = launch("busy_hang", "--stop-timeout", "600")
    assert process.stdout is not None
    assert process.stderr is not None
    wait_for_line(process.stdout, "running")
    process.send_signal(signal.SIGTERM)
    wait_for_line(process.stderr, "draining")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(SAME_SECONDS + 0.1)


@pytest.mark.parametrize("kind", ["blocked", "blocked_in_c"])
def test_a_second_signal_ends_a_worker_whose_event_loop_is_blocked(launch: Launch, kind: str) -> None:
    process = launch(f"busy_{kind}", "--stop-timeout", "600")
    assert process.stdout is not None
    wait_for_line(process.stdout, "running")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(SAME_SECONDS + 0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == ExitCode.BLOCKED
    assert "SIGTERM received, and the worker cannot stop: its event loop is blocked" in err
    assert f"in {kind}\n" in err, "the log has the stack of what blocks the loop"


def test_a_worker_whose_event_loop_is_blocked_ends_at_the_stop_timeout(launch: Launch) -> None:
    process = launch("busy_blocked", "--stop-timeout", "0.1")
    assert process.stdout is not None
    wait_for_line(process.stdout, "running")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == ExitCode.BLOCKED


def test_a_child_that_a_handler_ends_does_not_stop_the_worker(launch: Launch) -> None:
    process = launch("busy_forks")
    assert process.stdout is not None
    assert wait_for_line(process.stdout, "ended with") == f"ended with {-signal.SIGTERM}\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_what_runs_too_long_is_handed_back_at_the_stop_timeout(launch: Launch) -> None:
    process = launch("busy_hang", "--stop-timeout", "0.1")
    assert process.stdout is not None
    wait_for_line(process.stdout, "running")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "1 released" in err


def test_a_failed_job_is_logged_with_its_id(launch: Launch) -> None:
    process = launch("busy_fail")
    assert process.stderr is not None
    line = wait_for_line(process.stderr, "ERROR")
    assert re.search(r"ERROR job [0-9a-f-]{36} \(fail\) failed after attempt 1 of 1: ValueError: no such file", line)


def test_it_works_as_the_first_process_of_a_container(launch: Launch, tmp_path: Path) -> None:
    namespaces = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*namespaces, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no process namespaces")
    process = subprocess.Popen(
        [*namespaces, sys.executable, "-m", "jobq_core", "worker", "--storage", "memory://", "jobs"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    wait_for_line(process.stderr, "started")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopped" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere", "--storage", "memory://"], "Error: there is no module 'nowhere'"),
        (["nowhere.deeper", "--storage", "memory://"], "Error: there is no module 'nowhere.deeper'"),
        (["json", "--storage", "memory://"], "Error: the module 'json' declares no jobs"),
        (["json"], "Missing option '--storage'"),
        (["--storage", "memory://"], "Missing argument 'MODULE...'"),
        (["json", "--storage", "memory://", "--concurrency", "-1"], "Invalid value for '--concurrency'"),
        (["json", "--storage", "memory://", "--log-level", "loud"], "Invalid value for '--log-level'"),
    ],
)
def test_what_cannot_work_is_said_clearly(args: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    result = CliRunner().invoke(worker, args)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_dependency", "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ("raise RuntimeError('no settings')", "RuntimeError: no settings"),
        ("def (", "SyntaxError: invalid syntax"),
        ("from jobq_core import job\n@job(priority=999)\ndef f(): ...", "ConfigurationError: priority must be"),
    ],
)
def test_a_module_that_fails_as_it_is_imported_is_named_with_where_it_fails(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_jobs.py").write_text(text + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(worker, ["broken_jobs", "--storage", "memory://"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: the module 'broken_jobs' failed to import:\n")
    assert said in result.output
    assert "broken_jobs.py" in result.output
    assert "jobq_worker" not in result.output, "the frames of jobq say nothing of the module"


@pytest.mark.parametrize("name", ["", "../jobs", ".jobs", "shop/jobs.py", "shop..jobs"])
def test_a_word_that_cannot_name_a_module_is_refused(name: str) -> None:
    result = CliRunner().invoke(worker, [name, "--storage", "memory://"])
    assert result.exit_code == 1
    assert "a module is named as for import, such as shop.jobs" in result.output


def test_a_worker_on_the_memory_of_its_own_process_is_warned_of(launch: Launch) -> None:
    process = launch("jobs", "--storage", "memory://")
    assert process.stderr is not None
    assert "Warning: memory:// is the memory of this process" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=20)


def test_a_storage_that_nothing_installed_opens_is_refused_in_one_line(launch: Launch) -> None:
    process = launch("jobs", "--storage", "redis://localhost")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.startswith("Error: no installed storage opens redis://…")
    assert "Traceback" not in err
