"""The report on a storage's health."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Any

import msgspec
import pytest

from jobq_core.errors import ConfigurationError, SchemaError, StorageUnavailableError
from jobq_core.health import Check, HealthReport, examine_storage
from jobq_core.memory import MemoryQueueStorage


async def test_a_storage_that_answers_is_well_and_stays_open() -> None:
    storage = MemoryQueueStorage()
    report = await examine_storage(storage)
    assert report.ok
    assert re.fullmatch(r"memory:// answered in \d+ ms", report.checks["storage"].detail)
    await storage.now()
    await storage.close()


@pytest.mark.parametrize(
    ("error", "failing"),
    [
        (SchemaError("run jobq migrate"), {"schema": "run jobq migrate"}),
        (StorageUnavailableError("no connection"), {"storage": "StorageUnavailableError: no connection"}),
    ],
)
async def test_what_fails_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception, failing: dict[str, str]) -> None:
    async def fail(self: MemoryQueueStorage) -> None:
        raise error

    monkeypatch.setattr(MemoryQueueStorage, "open", fail)
    report = await examine_storage(MemoryQueueStorage())
    assert {name: check.detail for name, check in report.checks.items() if not check.ok} == failing


async def test_a_storage_that_does_not_answer_in_time_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(self: MemoryQueueStorage) -> datetime:
        return await asyncio.Future()

    monkeypatch.setattr(MemoryQueueStorage, "now", hang)
    report = await examine_storage(MemoryQueueStorage(), timeout=0.01)
    assert report.checks == {"storage": Check(False, "memory:// did not answer within 0.01 s")}


@pytest.mark.parametrize("timeout", [0, -1, "soon", None])
async def test_a_timeout_that_cannot_work_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        await examine_storage(MemoryQueueStorage(), timeout)


def test_a_report_has_a_json_form() -> None:
    well, ill = Check(True, "answers"), Check(False, "away")
    assert msgspec.json.decode(HealthReport({"loop": well}).to_json()) == {
        "status": "ok",
        "checks": {"loop": {"ok": True, "detail": "answers"}},
    }
    assert msgspec.json.decode(HealthReport({"loop": well, "storage": ill}).to_json())["status"] == "failing"
