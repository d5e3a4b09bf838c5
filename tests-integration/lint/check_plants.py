"""Prove that the linter finds forbidden code: plant each forbidden import or call in each package, and run ruff.

Ruff reads each plant as if it were a file of a package, so the repository's own settings apply. Ruff has no rule
against `__import__`: this script searches for it, in plants and packages.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PLANTS = {
    "import asyncio\nasyncio.wait_for(NAME, 1)": "TID251",
    "import pickle": "TID251",
    "from pickle import loads": "TID251",
    "import marshal": "TID251",
    "from marshal import loads": "TID251",
    "import shelve": "TID251",
    "import dill": "TID251",
    "import cloudpickle": "TID251",
    "import jsonpickle": "TID251",
    "import joblib": "TID251",
    "import runpy": "TID251",
    "import code": "TID251",
    "from importlib import import_module": "TID251",
    "import importlib\nimportlib.import_module(NAME)": "TID251",
    "import importlib\nimportlib.__import__(NAME)": "TID251",
    "import pkgutil\npkgutil.resolve_name(NAME)": "TID251",
    "__import__(NAME)": "__import__",
    "import builtins\nbuiltins.__import__(NAME)": "__import__",
    "exec(NAME)": "S102",
    "eval(NAME)": "S307",
    "import yaml\nyaml.load(NAME)": "S506",
    "import yaml\nyaml.load(NAME, Loader=yaml.UnsafeLoader)": "S506",
    "f'SELECT 1 FROM {NAME}'": "S608",
    "'DELETE FROM job WHERE id = %s' % NAME": "S608",
}

FINE = ["from importlib.metadata import entry_points", "import json", "import yaml\nyaml.safe_load(NAME)"]


def found(plant: str, package: Path) -> set[str]:
    """Return the codes of ruff's findings in a file of this package."""
    text = f'"""A plant."""\n\nNAME = "x"\n{plant}\n'
    name = package / "planted.py"
    command = ["ruff", "check", "--no-cache", "--output-format", "json", "--stdin-filename", name, "-"]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode not in (0, 1):  # 1: something was found
        sys.exit(f"{command} failed:\n{ran.stdout}{ran.stderr}")
    return {finding["code"] for finding in json.loads(ran.stdout)} | forbidden(text)


def forbidden(text: str) -> set[str]:
    """Return a set of `__import__` if the code names it, else an empty set."""
    named = {getattr(node, "id", getattr(node, "attr", None)) for node in ast.walk(ast.parse(text))}
    return {"__import__"} & named


def main() -> None:
    """Try every plant in every package, and exit with a line for each plant that ruff misses."""
    packages = sorted(path for path in (ROOT / "packages").glob("*/src/*") if path.is_dir())
    problems = [
        f"{package.name}: {code} misses {plant!r}"
        for package in packages
        for plant, code in PLANTS.items()
        if code not in found(plant, package)
    ]
    held = {*PLANTS.values()}
    sources = [path for package in packages for path in package.rglob("*.py")]
    problems += [f"{path}: __import__ is used" for path in sources if forbidden(path.read_text(encoding="utf-8"))]
    problems += [f"{plant!r} is reported, but allowed" for plant in FINE if held & found(plant, packages[0])]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(PLANTS)} plants in {len(packages)} packages, all found")


if __name__ == "__main__":
    main()
