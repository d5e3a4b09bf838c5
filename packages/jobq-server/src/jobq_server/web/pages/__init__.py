"""The pages of the dashboard, a module each. `ROUTES` is all of them."""

from jobq_server.web import live
from jobq_server.web.pages import job, jobs, login, overview

ROUTES = [*login.routes, *live.routes, *overview.routes, *jobs.routes, *job.routes]
