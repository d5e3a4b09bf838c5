"""The fixtures that the other tests use."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
from typing import Any

import psycopg
import pytest


def test_the_postgres_database_is_empty(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert tables.fetchone() == (0,)


def test_the_sqlite_file_can_be_made(sqlite_url: str) -> None:
    connection = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))
    connection.close()


def test_a_child_can_be_read_stopped_and_killed(children: Any) -> None:
    talking = children.python("-c", "import os; print('ready', os.environ['X']); input()", X="now")
    assert talking.wait_for_line(r"ready (\w+)")[1] == "now"
    assert talking.wait() == 1  # it has no standard input
    assert "EOFError" in talking.output

    asked = children.python("-c", "import signal; print('up'); signal.pause()")
    asked.wait_for_line("up")
    asked.terminate()
    assert asked.wait() == -signal.SIGTERM


def test_waiting_for_a_line_that_never_comes_fails_with_the_output(children: Any) -> None:
    child = children.python("-c", "print('something else')")
    with pytest.raises(pytest.fail.Exception, match="something else"):
        child.wait_for_line("ready")


def test_children_of_children_are_killed_at_the_end(children: Any) -> None:
    script = """
import subprocess, sys, signal
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("child", child.pid)
signal.pause()
"""
    parent = children.python("-c", script)
    handle = os.pidfd_open(int(parent.wait_for_line(r"child (\d+)")[1]))
    children.end()
    assert parent.wait() == -signal.SIGKILL
    assert select.select([handle], [], [], 10)[0]
