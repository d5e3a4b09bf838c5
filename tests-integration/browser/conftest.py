"""A real Chromium, and a dashboard for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from jobq_server.web import Role

sys.path.insert(0, str(Path(__file__).parent))

from dashboard_site import Site, Visit, Visitor, find_chromium, open_window


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for one module: while it is open, no other event loop runs in this thread."""
    path = find_chromium()
    assert path, "the browser tests need Chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    made = Site()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def visit(chromium: Browser, site: Site) -> Iterator[Visit]:
    """Return a function that opens a window, as `open_window` does."""
    opened: list[Visitor] = []

    def make(role: Role | None = Role.ADMIN, **options: Any) -> Visitor:
        opened.append(open_window(chromium, site.base, role, **options))
        return opened[-1]

    yield make
    for visitor in opened:
        visitor.context.close()
        assert visitor.complaints == []
