"""A dashboard over a staged shop, served from a thread with an event loop of its own; and who visits it."""

from __future__ import annotations

import asyncio
import base64
import shutil
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from staged import Shop

from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import Credentials, Role, create_app
from jobq_server.web.serving import WebServer

T = TypeVar("T")

expect.set_options(timeout=20_000)

PASSWORDS = {role: f"the password of {role.value}" for role in Role}


def find_chromium() -> str | None:
    """Return the path of the machine's Chromium."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Site:
    """A dashboard that is served, and its shop."""

    def __init__(self) -> None:
        self.shop = Shop()
        self.base = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def storage(self) -> MemoryQueueStorage:
        storage: MemoryQueueStorage = self.shop.storage
        return storage

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop of the storage, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def start(self) -> None:
        self._thread.start()
        self.call(self._start())

    async def _start(self) -> None:
        await self.shop.open()
        users = {role.value: (password, role) for role, password in PASSWORDS.items()}
        app = create_app(self.storage, auth=Credentials(users=users), hide_payloads=["view"])
        self._web = WebServer(app, "127.0.0.1", 0, app.state.web.close)
        await self._web.start()
        self.base = f"http://127.0.0.1:{self._web.port}"

    def stop(self) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        await self._web.stop()
        await self.storage.close()


class Visitor:
    """A browser window; it collects what the console says."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context = context
        self.base = base
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self._expected: set[str] = set()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))

    def _hear(self, message: ConsoleMessage) -> None:
        expected = any(one in message.text for one in self._expected)
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(message.text)

    def expect_status(self, status: int) -> None:
        """Let the console report answers of this status, which the test expects."""
        self._expected.add(f"status of {status}")

    def go(self, path: str) -> Page:
        """Open a page, which must answer with 200."""
        answer = self.page.goto(self.base + path)
        assert answer is not None
        assert answer.status == 200, (path, answer.status)
        return self.page


Visit = Callable[..., Visitor]


def open_window(
    browser: Browser, base: str, role: Role | None = Role.ADMIN, *, width: int = 1440, height: int = 900, **options: Any
) -> Visitor:
    """Open a window of a role, wide or narrow, light or dark; None: of someone who is not logged in."""
    if role is not None:
        given = base64.b64encode(f"{role.value}:{PASSWORDS[role]}".encode()).decode()
        options["extra_http_headers"] = {"authorization": f"Basic {given}"}
    viewport: Any = {"width": width, "height": height}
    return Visitor(browser.new_context(viewport=viewport, reduced_motion="reduce", **options), base)
