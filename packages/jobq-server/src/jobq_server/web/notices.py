"""What was done by the form before, shown once: `?did=retry.3` is '3 jobs retried'.

The address names an action and a number, so that no link can put other words on a page.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from jobq_core.storage import Action
from jobq_server.web.actions import ACTIONS
from jobq_server.web.formatting import plural

_OTHERS: Final = {
    "add": ("job", "added"),
    "cancel": ("operation", "cancelled"),
    "drain": ("worker", "asked to drain"),
    "pause": ("queue", "paused"),
    "resume": ("queue", "resumed"),
    "retention": ("queue", "given another retention"),
}
_DONE: Final = re.compile(r"([a-z-]{1,20})\.(\d{1,9})", re.ASCII)


def with_notice(path: str, action: str, count: int) -> str:
    """Return a path whose page says what was done."""
    parts = urlsplit(path)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "did"]
    return urlunsplit(("", "", parts.path, urlencode([*query, ("did", f"{action}.{count}")]), ""))


def read_notice(did: str) -> str:
    """Return what a page says was done; '' for nothing."""
    match = _DONE.fullmatch(did)
    if match is None:
        return ""
    action, count = match[1], int(match[2])
    if action in _OTHERS:
        noun, done = _OTHERS[action]
    elif action in set(Action):
        noun, done = "job", ACTIONS[Action(action)].done
    else:
        return ""
    return f"{plural(count, noun)} {done}" if count else f"Nothing was {done}"
