"""Files through which a test observes and controls jobs in other processes: see `shop_jobs`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path


class Log:
    """A file to which the jobs of all processes append lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def lines(self) -> list[str]:
        """The lines so far."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    async def until(self, check: Callable[[list[str]], bool], timeout: float = 30) -> list[str]:
        """Wait until the lines fulfil a condition; checks every few milliseconds, since another process writes them."""
        try:
            async with asyncio.timeout(timeout):
                while not check(self.lines):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"after {timeout} s the log is {self.lines}") from None
        return self.lines

    async def has(self, *wanted: str) -> None:
        """Wait until the file has all of these lines."""
        await self.until(lambda lines: set(wanted) <= set(lines))


class Gate:
    """A file for which jobs wait."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> None:
        """Let the jobs continue."""
        self.path.touch()
