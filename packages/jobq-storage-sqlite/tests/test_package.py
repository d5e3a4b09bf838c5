"""The distribution as it was installed: what every user gets before a line of it runs."""

import re
import subprocess
import sys
from importlib.metadata import distribution, metadata
from importlib.resources import files
from pathlib import Path

from jobq_core.urls import GROUP, OWN

META = metadata("jobq-storage-sqlite")


def test_the_changelog_begins_with_the_version() -> None:
    changelog = Path(__file__).parents[1].joinpath("CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == META["Version"]


def test_the_licence_is_named() -> None:
    assert META["License-Expression"] == "MIT"


def test_the_package_is_marked_as_typed() -> None:
    assert files("jobq_storage_sqlite").joinpath("py.typed").is_file()


def test_the_entry_points_are_those_that_the_core_knows_by_heart() -> None:
    mine = distribution("jobq-storage-sqlite").entry_points.select(group=GROUP)
    assert {(entry.name, entry.module, entry.attr) for entry in mine} == {
        (scheme, *where) for scheme, where in OWN.items() if where[0] == "jobq_storage_sqlite"
    }


def test_opening_a_file_brings_nothing_that_only_some_need(tmp_path: Path) -> None:
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
    seldom = {"aiosqlite", "click", "ctypes", "importlib.metadata", "importlib.resources", "jobq_core.memory", "json"}
    assert seldom.isdisjoint(ran.stdout.split())
