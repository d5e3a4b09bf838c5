"""The installed distribution: what importing it loads, and its entry points."""

import subprocess
import sys
from importlib.metadata import distribution

from jobq_core.urls import GROUP, OWN


def test_the_entry_points_are_those_that_the_core_has_built_in() -> None:
    mine = distribution("jobq-storage-postgres").entry_points.select(group=GROUP)
    assert {(entry.name, entry.module, entry.attr) for entry in mine} == {
        (scheme, *where) for scheme, where in OWN.items() if where[0] == "jobq_storage_postgres"
    }


def test_importing_it_loads_little_more_than_the_core_and_psycopg() -> None:
    script = """
import sys, jobq_core, psycopg
before = set(sys.modules)
import jobq_storage_postgres
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    brought = {name for name in ran.stdout.split() if not name.startswith("_")}
    assert brought <= {"hashlib", "jobq_core", "jobq_storage_postgres", "psycopg", "urllib"}
