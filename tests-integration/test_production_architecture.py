"""The production example works on a storage that it creates itself and on a given storage."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobq_core import open_storage

EXAMPLE = Path(__file__).parents[1] / "examples" / "production_architecture.py"


@pytest.mark.timeout(180)
def test_it_packs_and_verifies_every_file_with_one_dead_letter(children: Any) -> None:
    example = children.python(EXAMPLE)
    assert example.wait(150) == 0
    assert "dead letter           Pack: no file " in example.output
    for name in ("server", "worker-1", "worker-2"):
        example.wait_for_line(rf"^{name} +ended with 0$")
    example.wait_for_line("^all is well$")


@pytest.mark.timeout(180)
def test_it_leaves_no_worker_and_no_unfinished_job_on_a_given_storage(children: Any, storage_url: str) -> None:
    example = children.python(EXAMPLE, "--storage", storage_url)
    assert example.wait(150) == 0

    async def look() -> None:
        async with open_storage(storage_url) as storage:
            assert await storage.workers() == []
            counts = await storage.counts()
            assert {queue: {s.value: n for s, n in states.items() if n} for queue, states in counts.items()} == {
                "example-pack": {"completed": files, "failed": 1},
                "example-verify": {"completed": files},
            }

    files = int(example.wait_for_line(r"^packed and verified +(\d+) files")[1])
    assert files > 50
    asyncio.run(look())
