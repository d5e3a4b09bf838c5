"""Add, watch and control jobq jobs, with no worker code installed."""

from typing import TYPE_CHECKING, Any

from jobq_client.base_handle import JobKey
from jobq_client.client import JobQueueClient
from jobq_client.conditions import Conditions
from jobq_client.handle import JobHandle
from jobq_client.querying import Output

if TYPE_CHECKING:
    from jobq_client.sync_client import SyncJobQueueClient
    from jobq_client.sync_handle import SyncJobHandle
    from jobq_client.sync_streams import SyncEventStream

__all__ = [
    "Conditions",
    "JobHandle",
    "JobKey",
    "JobQueueClient",
    "Output",
    "SyncEventStream",
    "SyncJobHandle",
    "SyncJobQueueClient",
]


def __getattr__(name: str) -> Any:
    """Import what threads use at its first use: programs with an event loop do not need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jobq_client import sync_client, sync_handle, sync_streams

    found = {
        "SyncEventStream": sync_streams.SyncEventStream,
        "SyncJobHandle": sync_handle.SyncJobHandle,
        "SyncJobQueueClient": sync_client.SyncJobQueueClient,
    }
    globals().update(found)
    return found[name]
