"""The installed distribution: what importing it loads, and its entry points."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from jobq_core.urls import GROUP, OWN


def test_the_entry_points_are_those_that_the_core_has_built_in() -> None:
    mine = distribution("jobq-storage-sqlite").entry_points.select(group=GROUP)
    assert {(entry.name, entry.module, entry.attr) for entry in mine} == {
        (scheme, *where) for scheme, where in OWN.items() if where[0] == "jobq_storage_sqlite"
    }


def test_opening_a_file_loads_no_module_that_only_some_users_need(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from jobq_core import open_storage

async def main():
    async with open_storage(f"sqlite:///{sys.argv[1]}/jobs.db"):
        pass

asyncio.run(main())
print(*sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    seldom = {"click", "ctypes", "importlib.metadata", "importlib.resources", "jobq_core.memory", "json"}
    assert seldom.isdisjoint(ran.stdout.split())
