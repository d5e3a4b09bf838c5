"""A web app with one sync client, started where it is imported: in gunicorn's master with `--preload`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from shop_jobs import add_up

from jobq_client import SyncJobQueueClient

client = SyncJobQueueClient(os.environ["JOBQ_STORAGE"])
client.start()


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Add a job, and answer with its result when it is done."""
    result = client.add(add_up(a=1, b=2)).result(timeout=30)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(result).encode()]
