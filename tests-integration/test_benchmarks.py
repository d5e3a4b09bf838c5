"""Each benchmark scenario runs once, with few jobs, for jobq and the floors; the pages show the kept results."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = Path(__file__).parent / "benchmarks"
STORAGES = ["postgresql", "sqlite", "memory"]


def scenarios() -> tuple[list[str], list[str]]:
    """Return the names of one scenario for each kind of measurement, and those of the others."""
    script = "from plan import SCALES, plan; [print(one.name, one.measure) for one in plan(SCALES['smoke'])]"
    ran = subprocess.run([sys.executable, "-c", script], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    measures = dict(line.split() for line in ran.stdout.splitlines())
    first = [*{measure: name for name, measure in reversed(measures.items())}.values()]
    return first, [name for name in measures if name not in first]


@pytest.mark.matrix
@pytest.mark.timeout(300)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_scenario_of_each_kind_of_measurement_runs_all_its_jobs_on(storage: str, tmp_path: Path) -> None:
    first, _ = scenarios()
    contestants, measured = check_scenarios(first, storage, tmp_path, "--verbs-once")
    assert measured == contestants


@pytest.mark.matrix
@pytest.mark.timeout(600)
@pytest.mark.parametrize("storage", STORAGES)
def test_each_other_scenario_runs_all_its_jobs_on(storage: str, tmp_path: Path) -> None:
    _, others = scenarios()
    check_scenarios(others, storage, tmp_path)


def check_scenarios(names: list[str], storage: str, folder: Path, *more: str) -> tuple[set[str], set[str]]:
    """Run scenarios, and check that all jobs of each ran; return the contestants, and those that were measured."""
    options = ["--here", "--scale", "smoke", "--storage", storage, "--out", folder, *more]
    ran = subprocess.run(
        [sys.executable, BENCHMARKS, *names, *options], capture_output=True, text=True, timeout=580, check=False
    )
    assert ran.returncode == 0, ran.stderr
    (file,) = folder.glob("*.jsonl")
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
    return contestants, {contestant for _, _, contestant in measured}


def _what(line: dict[str, Any]) -> tuple[str, str, str]:
    return line["scenario"], line["variant"], line["contestant"]


def _leaves_some(line: dict[str, Any]) -> bool:
    """Say whether the backlog was longer than the number of measured jobs, so that some of the rest may have run."""
    return "behind" in line["options"]


def check_pages(folder: Path) -> subprocess.CompletedProcess[str]:
    """Compare the pages in a folder with the results that are kept in the repository."""
    pages = ["--page", folder / "docs" / "benchmarks.md", "--readme", folder / "README.md"]
    command = [sys.executable, BENCHMARKS / "report.py", ROOT / "docs" / "benchmarks", *pages, "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_pages_show_the_results_that_are_kept() -> None:
    ran = check_pages(ROOT)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md"])
def test_a_figure_that_is_typed_in_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for page in ("README.md", "docs/benchmarks.md"):
        shutil.copy(ROOT / page, tmp_path / page)
    text = (tmp_path / name).read_text()
    row, figure = re.search(r"(\| (?:\*\*)?jobq.*?\| )(\d+,\d{3}) ", text).groups()  # type: ignore[union-attr]
    (tmp_path / name).write_text(text.replace(row + figure, row + "999,999"))

    ran = check_pages(tmp_path)
    assert ran.returncode == 1
    assert f"{name} differs from the results" in ran.stderr
