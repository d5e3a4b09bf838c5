"""The TypeScript client of examples/: generated from the document of a server, compiled, and used with that server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "clients" / "typescript"

JOBS = """
from jobq_core import job


@job(queue="mail")
async def send_receipt(order_id: int) -> str:
    return f"receipt {order_id}"
"""

MISTAKES = """
import { add, connect } from "./jobq.js";

const api = connect("http://127.0.0.1");
// @ts-expect-error there is no such field
await add(api, { kind: "send_receipt", quue: "mail" });
// @ts-expect-error there is no such state
await api.GET("/jobs", { params: { query: { state: ["lost"] } } });
// @ts-expect-error there is no such path
await api.GET("/jobs/{id}/reasons", { params: { path: { id: "" } } });
"""
"""The compiler must refuse each line below a comment, and refuses the comment otherwise."""


def node(folder: Path, *command: str, **variables: str) -> str:
    """Run a command of Node.js in a folder, and return its output."""
    found = shutil.which(command[0])
    assert found, f"the test of the TypeScript client needs {command[0]}: install Node.js 20 or newer, with npm"
    environment = {**os.environ, "npm_config_update_notifier": "false", **variables}
    ran = subprocess.run(
        [found, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.matrix  # npm ci and the compiler take 20 s
@pytest.mark.timeout(300)
def test_the_typescript_client_is_generated_compiled_and_used(children: Any, tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "jobs.py").write_text(JOBS, encoding="utf-8")
    server = children.jobq("server", "jobs", "--storage", sqlite_url, "--port", "0")
    project = tmp_path / "client"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("node_modules", "dist", "*.d.ts"))
    (project / "src" / "mistakes.ts").write_text(MISTAKES, encoding="utf-8")
    node(project, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    url = server.wait_for_line(r"HTTP API on (\S+)")[1]

    node(project, "npm", "run", "generate", JOBQ_URL=url)
    node(project, "npm", "run", "build")
    *followed, result, listed, refused = node(project, "node", "dist/main.js", url).splitlines()

    assert re.fullmatch(r"(pending|processing|completed) \d+ %", followed[0])
    assert followed[-1].startswith("completed")
    assert result == 'result: "receipt 7"'
    assert listed == "send_receipt in mail: completed"
    assert re.match(r"400 Bad Request: .*Expected `int`, got `str`", refused)
    server.terminate()
    assert server.wait() == 0
