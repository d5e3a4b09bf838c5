"""What holds jobs back by number: the slots and limiters of the workers, and paused queues."""

from __future__ import annotations

from jobq_core.states import JobState
from jobq_server.web.activity import read_overview
from jobq_server.web.call import Call
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()


@routes.get("/limits", access=Role.VIEW)
async def limits(call: Call) -> View:
    """Show the slots and limiters of the live workers, and what waits behind them."""
    read = await read_overview(call.storage)
    pending = {row.name: row.count(JobState.PENDING) for row in read.queues}
    return View(
        "limits.html",
        {
            "behind": {
                worker.info.id: sum(pending.get(queue, 0) for queue in worker.info.queues) for worker in read.alive
            },
            "paused": [row for row in read.queues if row.is_paused],
            "storage_now": read.now,
            "workers": sorted(read.alive, key=lambda worker: worker.info.name),
        },
    )
