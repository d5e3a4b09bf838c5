"""Import the modules that a command names, and with `--discover` the submodules of packages."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Final

import click

from jobq_core.registry import declared_in

SKIPPED: Final = ("__main__", "conftest", "test", "tests")
"""Names of submodules that are never imported, as names with test_ before them or _test behind them."""

_PASSED: Final = ("importlib", "jobq_core", "jobq_worker")
"""Packages whose frames are not where an import fails: a wrong declaration is refused by jobq_core."""


class ModuleError(click.ClickException):
    """A module cannot be used. line: the message in one line, without a traceback."""

    def __init__(self, message: str, line: str = "") -> None:
        super().__init__(message)
        self.line = line or message


def load_modules(names: Sequence[str], *, discover: bool = False) -> list[ModuleType]:
    """Import modules that declare jobs, and with `discover` the submodules of packages.

    Raises ModuleError for a name without a module, for an import that fails, and for a name that brings no job.
    """
    loaded: list[ModuleType] = []
    for name in names:
        found = []
        for module in walk(name, discover=discover):
            if isinstance(module, ModuleError):
                raise module
            found.append(module)
        check_declares(name, found)
        loaded += found
    return loaded


def check_declares(name: str, modules: Sequence[ModuleType]) -> None:
    """Raise ModuleError if no job is declared in the modules that a name stands for."""
    if any(True for module in modules for _ in declared_in(module)):
        return
    where = f"the module {name!r} declares" if len(modules) == 1 else f"{name!r} and its submodules declare"
    hint = ""
    if len(modules) == 1 and hasattr(modules[0], "__path__"):
        hint = ", or pass --discover to import its submodules"
    raise ModuleError(f"{where} no jobs: decorate functions or classes with @job{hint}")


def walk(name: str, *, discover: bool) -> Iterator[ModuleType | ModuleError]:
    """Import a module, and with `discover` its submodules at any depth; yield each, or why it cannot be used."""
    try:
        module = import_module(name)
    except ModuleError as error:
        yield error
        return
    yield module
    if discover and hasattr(module, "__path__"):
        for found in pkgutil.iter_modules(module.__path__):
            if not _is_skipped(found.name):
                yield from walk(f"{name}.{found.name}", discover=True)


def _is_skipped(name: str) -> bool:
    return name in SKIPPED or name.startswith("test_") or name.endswith("_test")


def import_module(name: str) -> ModuleType:
    """Import a module, searching the working directory too. Raises ModuleError."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ModuleError(f"a module is named as for import, such as shop.jobs, not {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)  # noqa: TID251  (named on the command line, or found in a package)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise ModuleError(
                f"there is no module {name!r}, neither installed nor in the working directory (name it as for import)"
            ) from error
        said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        raise ModuleError(
            f"the module {name!r} failed to import:\n{_trace(error)}",
            f"the module {name!r} failed to import{_where(error)}: {said}; correct the module",
        ) from error


def _where(error: BaseException) -> str:
    """Return the file and line at which an import failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _PASSED:
            found = f" ({frame.f_code.co_filename}:{line})"
    return found


def _trace(error: BaseException) -> str:
    """Format the traceback of a failed import, without the frames of jobq and Python that led to the module."""
    trace = error.__traceback__
    while trace is not None and (
        trace.tb_frame.f_code.co_filename.startswith("<frozen importlib")
        or trace.tb_frame.f_code.co_filename in (__file__, importlib.__file__)
    ):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
