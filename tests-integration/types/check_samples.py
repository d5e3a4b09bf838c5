"""Check samples of user code: mypy and pyright must report the lines that end in `# E: why`, and no others.

The samples import the installed packages, as users do, so this also proves that the packages ship their types.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SAMPLES = sorted((HERE / "samples").glob("*.py"))

Place = tuple[str, int]  # a sample's name and a line of it


def expected() -> dict[Place, str]:
    """Return the lines with expected errors, and the reasons."""
    return {
        (sample.name, number): marked[1]
        for sample in SAMPLES
        for number, line in enumerate(sample.read_text().splitlines(), 1)
        if (marked := re.search(r"# E: (.+)$", line))
    }


def mypy() -> dict[Place, str]:
    """Return the lines with errors of mypy, and its messages."""
    lines = _output(sys.executable, "-m", "mypy", "--strict", "--output", "json", *SAMPLES).splitlines()
    found = [json.loads(line) for line in lines]
    return {(Path(e["file"]).name, e["line"]): e["message"] for e in found if e["severity"] == "error"}


def pyright() -> dict[Place, str]:
    """Return the lines with errors of pyright, and its messages."""
    said = _output(sys.executable, "-m", "pyright", "--outputjson", "-p", HERE, "--pythonpath", sys.executable)
    found: list[dict[str, Any]] = json.loads(said)["generalDiagnostics"]
    return {
        (Path(e["file"]).name, e["range"]["start"]["line"] + 1): e["message"] for e in found if e["severity"] == "error"
    }


def _output(*command: str | Path) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode not in (0, 1):  # 1: errors were found
        sys.exit(f"{command} failed:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def main() -> None:
    """Compare the errors, and exit with a line for each difference."""
    wanted = expected()
    problems: list[str] = []
    for checker in (mypy, pyright):
        found = checker()
        name = checker.__name__
        problems += [f"{f}:{n}: {name} finds no error: {wanted[f, n]}" for f, n in sorted(wanted.keys() - found.keys())]
        problems += [f"{f}:{n}: {name} says: {found[f, n]}" for f, n in sorted(found.keys() - wanted.keys())]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(SAMPLES)} samples, {len(wanted)} errors, all expected")


if __name__ == "__main__":
    main()
