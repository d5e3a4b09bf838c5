"""The pages of the dashboard, a module each. `MODULES = (
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
