"""Add, watch and control jobq jobs, with no worker code installed."""

from jobq_client.base_handle import JobKey
from jobq_client.client import JobQueueClient
from jobq_client.handle import JobHandle
from jobq_client.querying import Output
from jobq_client.sync_client import SyncJobQueueClient
from jobq_client.sync_handle import SyncJobHandle
from jobq_client.sync_streams import SyncEventStream

__all__ = ["JobHandle", "JobKey", "JobQueueClient", "Output", "SyncEventStream", "SyncJobHandle", "SyncJobQueueClient"]
