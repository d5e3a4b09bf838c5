"""An application that another one mounts, behind proxies that remove a part of the path."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import create_app

from .helpers import PASSWORD, credentials


@pytest.mark.parametrize("removed", [True, False])
async def test_a_host_with_a_root_path_of_its_own_may_mount_it(storage: MemoryQueueStorage, removed: bool) -> None:
    inner = Starlette(routes=[Mount("/ops", create_app(storage, auth=credentials()))])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Do as FastAPI(root_path="/api") does: the path is as the proxy passed it on."""
        path = scope["path"].removeprefix("/api") if removed else scope["path"]
        await inner({**scope, "root_path": "/api", "path": path}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x") as client:
        asked = await client.get("/api/ops/jobs")
        assert (asked.status_code, asked.headers["location"]) == (303, "/api/ops/login?to=%2Fjobs")
        entered = await client.post("/api/ops/login", data={"name": "kai", "secret": PASSWORD, "to": "/jobs"})
        assert entered.headers["location"] == "/api/ops/jobs"
        assert "Path=/api/ops;" in entered.headers["set-cookie"]
        page = await client.get("/api/ops/jobs")
        assert 'href="/api/ops/static/style.css' in page.text
        assert (await client.get("/api/ops/static/style.css")).status_code == 200
        assert (await client.get("/api/ops/livez")).status_code == 200
