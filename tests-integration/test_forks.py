"""A forked child uses nothing of its parent's, and leaves the parent unhurt."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobq_core import open_storage

PROGRAM = Path(__file__).with_name("support") / "forking.py"


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres"])
def test_a_forked_child_is_refused_or_returns_at_once_and_leaves_its_parent_unhurt(
    request: pytest.FixtureRequest, kind: str
) -> None:
    url = "memory://forked"
    if kind != "memory":
        url = str(request.getfixturevalue(f"{kind}_url"))
        asyncio.run(open_storage(url).migrate())
    done = subprocess.run([sys.executable, str(PROGRAM), url], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for call in ("add", "wait_for"):
        assert said[call].startswith("ConfigurationError: the client was started in another process; nothing was sent")
    for call in ("stop client", "stop worker", "close storage", "start again"):
        assert said[call] == "ok"
    assert said["result"] == 4
    assert said["healthy"]
    assert said["of the child"] == (0 if kind == "memory" else 1), "memory is each process's own"
    assert "lost" not in done.stderr
