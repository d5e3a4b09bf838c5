"""`SourceWatch`: whether a Python file changed, for `--reload`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

CHECK_SECONDS: Final = 0.5
"""Minimum interval between two looks at the files."""
_SKIPPED: Final = ("__pycache__", "node_modules", "site-packages")


class SourceWatch:
    """Compares the times of the .py files below folders, and of pyproject.toml, with those of the last look.

    Hidden folders and virtual environments are skipped.
    """

    def __init__(self, folders: Iterable[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._clock = clock
        self._looked_at = clock()
        self._times = dict(self._read())

    def changed(self) -> bool:
        """Return whether a file was changed, added or removed since the last look."""
        now = self._clock()
        if now - self._looked_at < CHECK_SECONDS:
            return False
        self._looked_at = now
        before, self._times = self._times, dict(self._read())
        return self._times != before

    def _read(self) -> Iterator[tuple[str, int]]:
        for folder in self._folders:
            for where, folders, files in os.walk(folder):
                folders[:] = [name for name in folders if not _is_skipped(where, name)]
                for name in files:
                    if name.endswith(".py") or name == "pyproject.toml":
                        path = os.path.join(where, name)  # noqa: PTH118  (a Path for each file takes ten times as long)
                        with contextlib.suppress(OSError):
                            yield path, os.stat(path).st_mtime_ns  # noqa: PTH116


def _is_skipped(where: str, name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED or Path(where, name, "pyvenv.cfg").exists()


def folders_of(modules: Iterable[str]) -> list[Path]:
    """Return the working directory, and the folders of the named packages outside of it."""
    here = Path.cwd()
    folders = [here]
    for module in modules:
        found = importlib.util.find_spec(module.partition(".")[0])
        for place in (found.submodule_search_locations or []) if found else []:
            if not Path(place).resolve().is_relative_to(here):
                folders.append(Path(place))
    return folders
