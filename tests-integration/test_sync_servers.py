"""The sync client in gunicorn's workers: one client a process, which is started in the master with `--preload`."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobq_core import JobState, open_storage

PATCHED = str(Path(__file__).with_name("support") / "patched_gunicorn.py")

SERVERS = {
    "sync": ["-k", "sync"],
    "sync preload": ["-k", "sync", "--preload"],
    "threads": ["-k", "gthread", "--threads", "4"],
    "threads preload": ["-k", "gthread", "--threads", "4", "--preload"],
    "gevent": ["-k", "gevent"],
    "gevent preload": ["-k", "gevent", "--preload", "-c", PATCHED],
}


@pytest.mark.parametrize("server", SERVERS)
async def test_requests_add_jobs_and_answer_with_their_results(children: Any, migrated_url: str, server: str) -> None:
    command = ["-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", *SERVERS[server], "sync_app:app"]
    gunicorn = children.python(*command, JOBQ_STORAGE=migrated_url)
    children.jobq("worker", "shop_jobs", JOBQ_STORAGE=migrated_url)
    address = gunicorn.wait_for_line(r"Listening at: (http://\S+)")[1]
    gunicorn.wait_for_line("Booting worker")

    def get(_: int) -> bytes:
        with urllib.request.urlopen(address, timeout=40) as response:
            answer: bytes = response.read()
            return answer

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(get, range(40))) == [b"3"] * 40
    async with open_storage(migrated_url) as storage:
        assert (await storage.counts())["default"][JobState.COMPLETED] == 40
    gunicorn.terminate()
    assert gunicorn.wait() == 0
