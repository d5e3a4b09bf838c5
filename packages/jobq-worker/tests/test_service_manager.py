"""What the process says to systemd, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq_core import job
from jobq_worker import JobQueueWorker
from jobq_worker.commands.worker_command import _tell_manager
from jobq_worker.processes.service_manager import ServiceManager
from jobq_worker.processes.supervisor import Supervisor

from .kit import Stage, add
from .probe import Probe


class Listener:
    """The end of the service manager."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(30)

    def receive(self) -> str:
        return self._socket.recv(4096).decode()

    def pending(self) -> list[str]:
        """Return what has come, without waiting."""
        found = []
        self._socket.setblocking(False)
        try:
            while True:
                found.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(30)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    yield listener
    listener.close()


@job()
async def quick() -> None: ...


async def test_a_worker_says_when_it_is_ready_that_it_works_and_when_it_stops(
    storage: Probe, stage: Stage, systemd: Listener, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    @job()
    async def block() -> None:
        stage.reach("started")
        systemd.pending()
        systemd._socket.settimeout(0.3)  # ten times the interval
        with pytest.raises(TimeoutError):
            systemd.receive()
        systemd._socket.settimeout(30)
        seen.append(systemd.pending())
        stage.reach("blocked")

    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "90000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    worker = JobQueueWorker(storage, jobs=[block])
    running = asyncio.create_task(worker.run())
    assert await asyncio.to_thread(systemd.receive) == "READY=1"
    assert "NOTIFY_SOCKET" not in os.environ
    for _ in range(3):
        assert await asyncio.to_thread(systemd.receive) == "WATCHDOG=1"
    await add(storage, block())
    await stage.reached("blocked")
    assert seen == [[]]
    assert await asyncio.to_thread(systemd.receive) == "WATCHDOG=1"
    await worker.stop(0)
    await running
    said = systemd.pending()
    assert said.count("STOPPING=1") == 1
    assert set(said) <= {"STOPPING=1", "WATCHDOG=1"}


async def test_a_worker_that_does_not_live_says_nothing(systemd: Listener, address: str) -> None:
    lives = [False]
    asked = asyncio.Event()

    def is_live() -> bool:
        asked.set()
        return lives[0]

    manager = ServiceManager(address, watchdog=0.03)
    manager.serve(is_live)
    assert await asyncio.to_thread(systemd.receive) == "READY=1"
    asked.clear()
    await asked.wait()
    assert systemd.pending() == []
    lives[0] = True
    assert await asyncio.to_thread(systemd.receive) == "WATCHDOG=1"
    manager.close()


def test_an_abstract_address_is_reached() -> None:
    address = f"@jobq-{os.getpid()}-{threading.get_ident()}"
    listener = Listener(address)
    ServiceManager(address).ready()
    assert listener.receive() == "READY=1"
    listener.close()


@pytest.mark.parametrize("address", [None, "/nowhere/at/all"])
def test_without_a_service_manager_nothing_happens(address: str | None) -> None:
    manager = ServiceManager(address, watchdog=1.0)
    manager.ready()
    manager.ping()
    manager.stopping()
    manager.close()


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000"}, 3.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_environment_says_whether_this_process_is_watched(
    environment: dict[str, str], watchdog: float | None
) -> None:
    assert ServiceManager.take_over(environment).watchdog == watchdog
    assert environment == {}


class IdleChild:
    pid = 1

    def __init__(self, number: int) -> None:
        self.messages = ["ready 30 30"]

    def read(self) -> list[str]:
        messages, self.messages = self.messages, []
        return messages

    def poll(self) -> int | None:
        return None

    def send_signal(self, number: int) -> None: ...


def test_a_supervisor_speaks_for_its_processes(systemd: Listener, address: str) -> None:
    supervisor = Supervisor(IdleChild, 2, lost_after=30, stop_timeout=30)
    manager = ServiceManager(address, watchdog=1000.0)
    _tell_manager(manager, supervisor)
    assert systemd.pending() == ["WATCHDOG=1"]
    for _ in range(3):  # the second process starts after the first one
        supervisor.step()
        _tell_manager(manager, supervisor)
    assert systemd.pending() == ["READY=1"]
    supervisor.stop("SIGTERM")
    _tell_manager(manager, supervisor)
    _tell_manager(manager, supervisor)
    assert systemd.pending() == ["STOPPING=1"]
