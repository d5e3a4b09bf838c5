"""Paths within the application, wherever it is mounted."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

API: Final = "/api/v1"


def base_of(scope: Scope) -> str:
    """Return the path under which the application is mounted, without a slash at its end: '' for the root."""
    return str(scope.get("root_path", "")).rstrip("/")


def path_of(scope: Scope) -> str:
    """Return the path of a request within the application."""
    path, base = str(scope["path"]), base_of(scope)
    return path[len(base) :] if base and (path == base or path.startswith(f"{base}/")) else path


def is_api(scope: Scope) -> bool:
    """Whether a request is for the HTTP API."""
    return path_of(scope).startswith("/api/")


def is_local(path: str) -> bool:
    """Whether a path, such as one to return to, leads to this application alone."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
