"""What open pages show is asked for once for all who look at the same page."""

from __future__ import annotations

import asyncio

import pytest

from jobq_server.web.looks import Looks


class Page:
    """Counts its looks, and can be held."""

    def __init__(self) -> None:
        self.looks = 0
        self.held = asyncio.Event()
        self.held.set()

    async def look(self) -> dict[str, str]:
        self.looks += 1
        await self.held.wait()
        return {"live_head": str(self.looks)}


async def test_one_look_is_for_all_who_look_at_the_same_time() -> None:
    looks, page = Looks(), Page()
    page.held.clear()
    waiting = [asyncio.create_task(looks.get("/", page.look)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    page.held.set()
    seen = await asyncio.gather(*waiting, return_exceptions=True)
    assert page.looks == 1
    assert seen[1:] == [{"live_head": "1"}] * 19


async def test_another_page_and_a_later_time_are_other_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, page = Looks(), Page()
    for key in ("/", "/", "/jobs"):
        await looks.get(key, page.look)
    assert page.looks == 2
    monkeypatch.setattr("jobq_server.web.looks.FRESH_SECONDS", 0.0)
    await looks.get("/", page.look)
    assert page.looks == 3


async def test_the_looks_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq_server.web.looks.FRESH_SECONDS", 0.0)
    looks, page = Looks(), Page()
    for number in range(1_000):
        await looks.get(number, page.look)
    assert len(looks._looks) <= 200


async def test_a_look_that_fails_is_not_kept_for_long() -> None:
    async def fail() -> dict[str, str]:
        raise ValueError("the storage is away")

    looks = Looks()
    for _ in range(2):
        with pytest.raises(ValueError, match="away"):
            await looks.get("/", fail)
