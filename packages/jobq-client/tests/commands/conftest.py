from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from jobq_core.commands import main
from jobq_core.memory import MemoryQueueStorage
from jobq_core.memory.storage import forget
from jobq_core.storage import QueueStorage

T = TypeVar("T")


class Shell:
    """Runs `jobq` commands in this process, on memory storage that they share."""

    def __init__(self) -> None:
        self.name = uuid4().hex
        self.url = f"memory://{self.name}"

    def run(self, *words: object, code: int = 0, input: str | None = None) -> Result:
        """Run a command and check its exit code."""
        result = CliRunner().invoke(main, [*map(str, words), "--storage", self.url], input=input)
        assert result.exit_code == code, result.output
        if result.exception is not None:
            assert isinstance(result.exception, SystemExit), result.output
        return result

    def json(self, *words: object, code: int = 0) -> Any:
        """Run a command with --json and return what it printed to standard output."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def act(self, function: Callable[[QueueStorage], Awaitable[T]]) -> T:
        """Run a coroutine function with the storage."""

        async def act() -> T:
            async with MemoryQueueStorage(self.name) as storage:
                return await function(storage)

        return asyncio.run(act())


@pytest.fixture
def shell() -> Iterator[Shell]:
    shell = Shell()
    yield shell
    forget(shell.name)
