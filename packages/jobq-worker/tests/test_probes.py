"""What `/livez` and `/readyz` answer."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from jobq_core import job
from jobq_worker import WorkerHealth
from jobq_worker.probes import livez, readyz

from .kit import Stage, until, working
from .probe import Probe

WELL = WorkerHealth(state="running", alive=True, hears=True, since_beat=4.0, lost_after=30.0)

CASES: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    # what differs from a worker that is well: the checks of /livez that fail, and those of /readyz
    "well": ({}, set(), set()),
    "not started": ({"state": "new", "alive": False, "since_beat": None}, set(), {"state", "lease"}),
    "starting": ({"state": "starting", "alive": False, "since_beat": None}, set(), {"state", "lease"}),
    "draining": ({"state": "stopping"}, set(), {"state"}),
    "stopped": ({"state": "stopped", "alive": False}, {"state"}, {"state", "lease"}),
    "a task has ended": ({"broken": True, "alive": False}, {"state"}, {"state", "lease"}),
    "the loop is blocked": ({"loop_lag": 2.0}, set(), {"loop"}),
    "the loop is blocked for too long": ({"loop_lag": 30.0, "since_beat": 29.0}, {"loop"}, {"loop"}),
    "no heartbeat": ({"since_beat": 31.0, "alive": False}, {"heartbeat"}, {"lease"}),
    "the storage is away": (
        {"storage_failing": True, "storage_failing_for": 3.0, "storage_error": "StorageUnavailableError: away"},
        set(),
        {"storage"},
    ),
    "the storage is away for long": (
        {"storage_failing": True, "storage_error": "x", "since_beat": 300.0, "alive": False},
        set(),
        {"storage", "lease"},
    ),
    "the schema is another one": (
        {"storage_failing": True, "storage_error": "SchemaError: run jobq migrate"},
        set(),
        {"schema"},
    ),
    "it polls": ({"hears": False}, set(), set()),
    "some handlers hang": ({"hung": 2}, set(), set()),
    "too many handlers hang": ({"hung": 11, "exhausted": True}, set(), {"handlers"}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_check_fails_for_its_cause_alone(name: str) -> None:
    differs, dead, unready = CASES[name]
    health = attrs.evolve(WELL, **differs)
    for report, failing in ((livez(health), dead), (readyz(health), unready)):
        assert {check for check, found in report.checks.items() if not found.ok} == failing
        assert report.ok is (not failing)


@pytest.mark.parametrize(
    ("differs", "check", "detail"),
    [
        ({"loop_lag": 2.34}, "loop", "the event loop has been blocked for 2.3 s; the limit is 1 s"),
        (
            {"storage_failing": True, "storage_failing_for": 3.0, "storage_error": "E: away"},
            "storage",
            "calls have failed for 3.0 s: E: away",
        ),
        ({"hears": False}, "notifications", "no notifications arrive: the worker polls"),
        ({"running": 3, "hung": 1}, "handlers", "3 running, 1 hung"),
        ({"state": "stopping"}, "state", "stopping"),
    ],
)
def test_a_check_gives_its_figures(differs: dict[str, Any], check: str, detail: str) -> None:
    assert readyz(attrs.evolve(WELL, **differs)).checks[check].detail == detail


async def test_a_worker_is_ready_from_its_start_until_it_drains(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold() -> None: ...

    async with working(storage, hold) as worker:
        assert livez(worker.health()).ok
        await until(lambda: worker.health().hears)
        report = readyz(worker.health())
        assert report.ok
        assert report.checks["notifications"].detail == "notifications arrive"
        await worker.stop(0)
        assert not readyz(worker.health()).ok
