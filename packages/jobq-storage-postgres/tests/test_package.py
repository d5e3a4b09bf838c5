"""The distribution as it was installed: what every user gets before a line of it runs."""

import re
import subprocess
import sys
from importlib.metadata import distribution, metadata
from importlib.resources import files
from pathlib import Path

from jobq_core.urls import GROUP, OWN

META = metadata("jobq-storage-postgres")


def test_the_changelog_begins_with_the_version() -> None:
    changelog = Path(__file__).parents[1].joinpath("CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == META["Version"]


def test_the_licence_is_named() -> None:
    assert META["License-Expression"] == "MIT"


def test_the_package_is_marked_as_typed() -> None:
    assert files("jobq_storage_postgres").joinpath("py.typed").is_file()


def test_the_entry_points_are_those_that_the_core_knows_by_heart() -> None:
    mine = distribution("jobq-storage-postgres").entry_points.select(group=GROUP)
    assert {(entry.name, entry.module, entry.attr) for entry in mine} == {
        (scheme, *where) for scheme, where in OWN.items() if where[0] == "jobq_storage_postgres"
    }


def test_importing_it_brings_next_to_nothing_beside_the_core_and_psycopg() -> None:
    script = """
import sys, jobq_core, psycopg
before = set(sys.modules)
import jobq_storage_postgres
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    brought = {name for name in ran.stdout.split() if not name.startswith("_")}
    assert brought <= {"hashlib", "jobq_core", "jobq_storage_postgres", "psycopg", "urllib"}
