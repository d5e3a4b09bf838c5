"""The web app of the shop: adds jobs, shows them, and says whether it is alive and ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request, Response

from jobq_client import JobQueueClient
from jobq_core.health import examine_storage
from shop.jobs import send_receipt


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, JobQueueClient]]:
    """Keep one client for the whole process; its storage is that of JOBQ_STORAGE."""
    async with JobQueueClient() as client:
        yield {"client": client}


def the_client(request: Request) -> JobQueueClient:
    """Return the client of this process."""
    client: JobQueueClient = request.state.client
    return client


Client = Annotated[JobQueueClient, Depends(the_client)]
app = FastAPI(lifespan=lifespan)


@app.post("/orders/{order_id}/receipt", status_code=202)
async def receipt(order_id: int, client: Client) -> dict[str, UUID]:
    """Have the receipt of an order sent; answers with the id of the job."""
    return {"job": (await client.add(send_receipt(order_id))).id}


@app.get("/jobs/{job_id}")
async def show(job_id: UUID, client: Client) -> dict[str, Any]:
    """Show the state of a job, and its result once it has one."""
    record = await client.get(job_id)
    if record is None:
        raise HTTPException(404)
    return {"state": record.state, "result": record.result}


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Answer as long as the process does; whether the database is there makes no difference to a restart."""
    return {"status": "ok"}


@app.get("/readyz")
async def readyz(client: Client) -> Response:
    """Answer with 200 if jobs can be added, with 503 otherwise."""
    report = await examine_storage(client.storage, timeout=3)
    return Response(report.to_json(), 200 if report.ok else 503, media_type="application/json")
