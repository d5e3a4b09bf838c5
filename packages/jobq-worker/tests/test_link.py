"""A child's link to its supervisor, over a socket pair."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq_worker.processes.link import Link, first_message
from jobq_worker.processes.source_watch import CHECK_SECONDS, SourceWatch, folders_of
from jobq_worker.processes.supervised import BEAT, DONE, ENDED, READY


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    """The supervisor's end of a link whose other end is standard input."""
    ours, theirs = socket.socketpair()
    kept = os.dup(0)
    os.dup2(theirs.fileno(), 0)
    theirs.close()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield ours
    ours.close()
    os.dup2(kept, 0)
    os.close(kept)
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_a_child_takes_its_arguments_and_says_that_its_loop_answers(
    supervisor: socket.socket,
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    supervisor.sendall(first_message(3, {"arguments": ["worker", "--name", "ä"]}))
    link = Link.take_over(lambda: loop.call_soon_threadsafe(stopped.set) and None)
    assert (link.number, link.task) == (3, {"arguments": ["worker", "--name", "ä"]})
    assert os.read(0, 10) == b"", "a handler that reads standard input finds its end"
    supervisor.setblocking(False)
    link.serve(0.01, 30.0)
    received = b""
    while received.count(BEAT.encode()) < 3:
        received += await loop.sock_recv(supervisor, 100)
    assert received.decode().splitlines()[:2] == [f"{READY} 0.01 30.0", BEAT]
    supervisor.close()
    await stopped.wait()
    link.end(done=True)  # nobody reads it


@pytest.mark.parametrize(("done", "message"), [(True, DONE), (False, ENDED)])
def test_a_child_says_that_its_worker_has_ended(supervisor: socket.socket, done: bool, message: str) -> None:
    stopped = threading.Event()
    supervisor.sendall(first_message(1, {}))
    link = Link.take_over(stopped.set)
    link.end(done=done)
    assert supervisor.recv(10).decode() == message + "\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    supervisor.close()
    stopped.wait()


def test_a_child_without_a_supervisor_ends_at_once(supervisor: socket.socket) -> None:
    supervisor.close()
    with pytest.raises(SystemExit):
        Link.take_over()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += CHECK_SECONDS
        return self.now


def test_changes_of_the_source_are_seen(tmp_path: Path) -> None:
    for skipped in (".hidden", "venv", "__pycache__", "site-packages"):
        (tmp_path / skipped).mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "jobs.py").write_text("1")
    watch = SourceWatch([tmp_path, tmp_path], Clock())
    assert not watch.changed()
    os.utime(tmp_path / "jobs.py", (1, 1))
    assert watch.changed()
    assert not watch.changed()
    (tmp_path / "new.py").touch()
    assert watch.changed()
    (tmp_path / "new.py").unlink()
    assert watch.changed()
    (tmp_path / "pyproject.toml").touch()
    assert watch.changed()
    for ignored in ("venv/a.py", ".hidden/a.py", "__pycache__/a.py", "site-packages/a.py", "notes.txt"):
        (tmp_path / ignored).touch()
    assert not watch.changed()


def test_it_looks_at_intervals_only(tmp_path: Path) -> None:
    clock = iter([0.0, CHECK_SECONDS / 2, CHECK_SECONDS])
    watch = SourceWatch([tmp_path], lambda: next(clock))
    (tmp_path / "a.py").touch()
    assert [watch.changed(), watch.changed()] == [False, True]


def test_named_packages_outside_of_the_working_directory_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert folders_of(["no_such_package.jobs", "json"])[0] == tmp_path
    assert folders_of(["json.decoder"])[1].name == "json"
