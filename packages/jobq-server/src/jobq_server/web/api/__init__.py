"""The HTTP API under /api/v1, and its OpenAPI document. `ROUTES` is all of its routes."""

from jobq_server.web.api import insight, jobs, openapi, operations, queues, workers

MODULES = (jobs, queues, operations, workers, insight, openapi)
ROUTES = [declared for module in MODULES for declared in module.routes]
