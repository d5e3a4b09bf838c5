"""The demo counts every file once, shows a bar that its child processes cannot break, and says what it measures."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "examples" / "census.py"
ERASE = "\x1b[2K"


def play(*arguments: str) -> tuple[int, str]:
    """Run the demo in a terminal; return its exit code and all that the terminal received."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, DEMO, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ) as demo:
        os.close(terminal)
        received = b""
        while chunk := _read(controller):
            received += chunk
    os.close(controller)
    return demo.returncode, received.decode()


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65_536)
    except OSError:  # all processes have closed the terminal
        return b""


@pytest.mark.timeout(120)
def test_it_shows_its_measurements_below_a_bar_that_no_child_process_writes_into(sqlite_url: str) -> None:
    code, received = play("--files", "400", "--storage", sqlite_url)
    assert code == 0, received
    plain = re.sub(r"\x1b\[[0-9;]*m", "", received)

    # Every line of a child process has its name, and begins where the bar was erased or a line had ended.
    logged = [line.rpartition(ERASE)[2] for line in re.split(r"[\r\n]+", plain) if re.search(r"worker plain \S", line)]
    assert {line.split()[0] for line in logged} == {"server", "plain"}
    for name in ("server", "plain"):
        before = plain[: plain.index(f"{name:>8} │")]
        assert before.endswith((ERASE, "\n")), before[-100:]
    assert "400/400" in plain

    assert re.search(r"counted exactly once +│ +every file", plain)
    assert re.search(r"\d files a second, each read and parsed", plain)
    assert re.search(r"\d no-op jobs a second drained by one worker on this machine: [\d,]+ in \d\.\d seconds", plain)
