"""The environments of the contestants: one each, kept between runs; jobq's are made from wheels."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("jobq-core", "jobq-client", "jobq-worker", "jobq-storage-postgres", "jobq-storage-sqlite")
EXTRAS = ("psycopg[binary]>=3.2.3",)
_METADATA = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")  # from PEP 723


class InstallError(RuntimeError):
    """An environment cannot be created; the message is the installer's output."""


def cache() -> Path:
    """Return the folder that keeps environments."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "jobq-benchmarks")


def uv() -> str:
    """Return the path of uv. Raises InstallError if it is missing."""
    try:
        from uv import find_uv_bin
    except ImportError:
        found = shutil.which("uv")
        if found is None:
            raise InstallError("uv is needed to make environments: pip install uv") from None
        return found
    return str(find_uv_bin())


def of_working_tree() -> Path:
    """Return the Python of an environment with wheels of the current files."""
    digest = hashlib.sha256(sys.version.encode())
    for package in PACKAGES:
        folder = ROOT / "packages" / package
        for path in sorted([*(folder / "src").rglob("*"), folder / "pyproject.toml"]):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return _jobq(digest.hexdigest()[:16], ROOT / "packages")


def of_revision(revision: str) -> tuple[str, Path]:
    """Return a commit's short name and the Python of an environment with its wheels; raises InstallError."""
    commit = _run(["git", "rev-parse", "--short=12", f"{revision}^{{commit}}"]).strip()
    with tempfile.TemporaryDirectory(prefix="jobq-revision-") as folder:
        asked = subprocess.run(["git", "archive", commit, "packages"], cwd=ROOT, capture_output=True, check=False)
        if asked.returncode:
            raise InstallError(asked.stderr.decode())
        with tarfile.open(fileobj=io.BytesIO(asked.stdout)) as archive:
            archive.extractall(folder, filter="data")
        return commit, _jobq(commit, Path(folder, "packages"))


def _jobq(key: str, packages: Path) -> Path:
    with _environment(f"jobq-{key}") as (folder, new):
        if new:
            wheels = folder / "wheels"
            for package in PACKAGES:
                _run([uv(), "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(packages / package)])
            _install(folder, [*map(str, sorted(wheels.glob("*.whl"))), *EXTRAS])
    return folder / "bin" / "python"


def of_script(script: Path) -> Path:
    """Return the Python of an environment with what the script's PEP 723 block declares; raises InstallError."""
    found = _METADATA.search(script.read_text())
    if found is None:
        raise InstallError(f"{script.name} does not say what it needs (PEP 723)")
    text = "".join(
        line[2:] if line.startswith("# ") else line[1:] for line in found["content"].splitlines(keepends=True)
    )
    needs = tomllib.loads(text).get("dependencies", [])
    key = hashlib.sha256("\n".join([sys.version, *needs]).encode()).hexdigest()[:16]
    with _environment(f"{script.stem}-{key}") as (folder, new):
        if new and needs:
            _install(folder, needs)
    return folder / "bin" / "python"


@contextmanager
def _environment(name: str) -> Iterator[tuple[Path, bool]]:
    """Create a virtual environment unless it exists. Concurrent callers wait; a failed installation does not count."""
    folder = cache() / name
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        new = not complete.exists()
        if new:
            shutil.rmtree(folder, ignore_errors=True)
            _run([uv(), "venv", "--quiet", "--python", sys.executable, str(folder)])
        yield folder, new
        complete.touch()


def _install(folder: Path, needs: list[str]) -> None:
    _run([uv(), "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *needs])


def _run(command: list[str]) -> str:
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise InstallError(f"{' '.join(command[:4])}… failed: {asked.stderr[-2000:].strip()}")
    return asked.stdout
