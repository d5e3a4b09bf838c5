"""Submit, watch and control jobq jobs, with no worker code installed."""

from jobq_client.client import JobKey, JobQueueClient, Output
from jobq_client.handle import JobHandle

__all__ = ["JobHandle", "JobKey", "JobQueueClient", "Output"]
