"""Who may do what: hosts, origins, identities, roles, sessions, bounds, and what of a job is shown."""
