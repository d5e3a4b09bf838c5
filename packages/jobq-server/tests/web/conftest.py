"""An application over memory, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import Role, create_app

from .helpers import TOKENS, Connect, credentials


@pytest.fixture
async def connect(storage: MemoryQueueStorage) -> AsyncIterator[Connect]:
    """Return a function that makes a client of an application (default: one with a token for each role).

    role: whose token it sends. client: its address. options: those of `create_app`.
    """
    async with AsyncExitStack() as stack:

        def make(
            app: ASGIApp | None = None,
            *,
            role: Role | None = None,
            host: str = "testserver",
            client: str | None = "127.0.0.1",
            headers: dict[str, str] | None = None,
            **options: Any,
        ) -> httpx.AsyncClient:
            app = app or create_app(storage, **{"auth": credentials(), **options})
            made = httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app, client=(client, 50_000) if client else None),
                base_url=f"http://{host}",
                headers=headers,
            )
            if role is not None:
                made.headers["authorization"] = f"Bearer {TOKENS[role]}"
            stack.push_async_callback(made.aclose)
            return made

        yield make
