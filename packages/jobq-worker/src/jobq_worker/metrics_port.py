"""`serve_metrics`: the option metrics_port, without which nothing of the metrics is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobq_core.errors import ConfigurationError

if TYPE_CHECKING:
    from jobq_worker.metrics.http_server import MetricsServer
    from jobq_worker.worker import JobQueueWorker


def port_of(port: int | None, number: int) -> int | None:
    """Return the port of a child of a supervisor, by its number from 1: the children have successive ports."""
    return port + number - 1 if port else port


def serve_metrics(worker: JobQueueWorker) -> MetricsServer | None:
    """Serve metrics and probes if the worker's options ask for it; return the server, which listens.

    Raises ConfigurationError if the port cannot be used or prometheus-client is not installed.
    """
    options = worker.options
    if options.metrics_port is None:
        return None
    try:
        from jobq_worker.metrics.http_server import MetricsServer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise ConfigurationError("metrics_port needs prometheus-client: pip install 'jobq-worker[metrics]'") from error
    server = MetricsServer(worker, options.metrics_host, options.metrics_port)
    server.start()
    return server
