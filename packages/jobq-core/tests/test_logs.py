"""Reading the logs of jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from jobq_core import logs
from jobq_core.errors import ConfigurationError
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import LogStorage, QueueStorage, decode_lines
from jobq_core.testing import add_job
from jobq_core.testing.contract.logs import new_part

AT = datetime(2026, 3, 4, tzinfo=UTC)


async def test_all_parts_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PAGE", 2)
    async with MemoryQueueStorage() as storage:
        job = await add_job(storage)
        parts = [new_part(job, 3, number, attempt=1) for number in range(3)] + [new_part(job, 5, attempt=2)]
        for written in (parts[:3], parts):
            await storage.write_logs(written)
            places = [part.place for part in await logs.read_parts(storage, job)]
            assert places == [part.place for part in written]
        assert [part.place for part in await logs.read_parts(storage, job, after=(3, 1))] == [(3, 2), (5, 0)]
        assert [part.place for part in await logs.read_parts(storage, job, attempt=2)] == [(5, 0)]


async def test_lines_know_the_run_that_logged_them() -> None:
    async with MemoryQueueStorage() as storage:
        job = await add_job(storage)
        assert not await logs.has_logs(storage, job)
        await storage.write_logs([new_part(job, 3, 0, "one", "two"), new_part(job, 5, 0, "three", attempt=2)])
        assert await logs.has_logs(storage, job)
        lines = logs.to_lines(await logs.read_parts(storage, job))
    assert [(line.attempt, line.lease, line.message) for line in lines] == [
        (1, 3, "one"),
        (1, 3, "two"),
        (2, 5, "three"),
    ]
    assert (lines[0].level, lines[0].logger) == ("INFO", "shop.mail")


async def test_a_storage_without_the_facet_is_named() -> None:
    class Loft:
        url = "carrier-pigeon://loft"

    storage: Any = Loft()
    message = (
        r"^keep_logs needs a storage with the facet LogStorage, which Loft \(carrier-pigeon://loft\) does not have$"
    )
    with pytest.raises(ConfigurationError, match=message):
        QueueStorage.facet(storage, LogStorage, "keep_logs")  # type: ignore[type-abstract]
    assert not await logs.has_logs(storage, new_id())


@pytest.mark.parametrize("damaged", ["not JSON", '{"at": 1}', '[["yesterday", "INFO", "shop", "x"]]'])
def test_damaged_lines_are_shown_as_they_are(damaged: str) -> None:
    (line,) = decode_lines(damaged, AT)
    assert line.at == AT
    assert line.message.replace("'", '"').replace(" ", "") == damaged.replace(" ", "")
