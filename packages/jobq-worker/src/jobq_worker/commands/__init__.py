"""`jobq worker` and `jobq check`, and what they share with `jobq server`."""

from jobq_worker.commands.check_command import check
from jobq_worker.commands.worker_command import worker

__all__ = ["check", "worker"]
