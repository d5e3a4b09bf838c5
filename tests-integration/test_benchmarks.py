"""The benchmarks run: every scenario of jobq and the floors once, with few jobs. What they take is no matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("storage", ["postgresql", "sqlite", "memory"])
def test_every_scenario_runs_all_its_jobs_on(storage: str, tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS, "--here", "--scale", "smoke", "--storage", storage, "--out", tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stderr
    (file,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]

    assert lines[0]["line"] == "conditions"
    assert {"date", "python", "cores", "revision", "storages"} <= lines[0].keys()
    contestants = {line["contestant"] for line in lines if line["line"] == "contestant"}
    assert "jobq" in contestants
    assert ("floor" in contestants) == (storage != "memory")
    rounds = [line for line in lines if line["line"] == "round"]
    wrong = [
        line for line in rounds if not line["finished"] or (line["jobs"] > line["asked"] and not _leaves_some(line))
    ]
    assert wrong == []
    measured = {_what(line) for line in rounds}
    assert measured == {_what(line) for line in lines if line["line"] == "summary" and line["median"] is not None}
    assert {contestant for _, _, contestant in measured} == contestants


def _what(line: dict[str, Any]) -> tuple[str, str, str]:
    return line["scenario"], line["variant"], line["contestant"]


def _leaves_some(line: dict[str, Any]) -> bool:
    """Say whether more jobs lay there than were measured, some of which may have run."""
    return "behind" in line["options"]
