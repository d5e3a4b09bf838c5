"""The pages of the dashboard, a module each. `ROUTES` is all of them."""

from jobq_server.web import live
from jobq_server.web.pages import (
    add,
    audit,
    bulk,
    doctor,
    failed,
    job,
    jobs,
    limits,
    login,
    operations,
    overview,
    settings,
    workers,
)

MODULES = (
    login,
    live,
    overview,
    jobs,
    job,
    bulk,
    add,
    failed,
    workers,
    limits,
    operations,
    audit,
    doctor,
    settings,
)
ROUTES = [declared for module in MODULES for declared in module.routes]
