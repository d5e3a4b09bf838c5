from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from jobq_worker.commands import worker

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_example_does_what_it_says() -> None:
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("running 20\n", "", 0)


def test_the_readmes_command_has_the_options_that_it_names() -> None:
    [line] = re.findall(r"^jobq worker (.*)$", README.read_text(), re.MULTILINE)
    given = worker.make_context("worker", line.split()).params
    assert given["modules"] == ("shop.jobs",)
    assert given["queues"] == ("mail", "images")
    assert given["concurrency"] == 20
