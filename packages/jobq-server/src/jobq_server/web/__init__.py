"""The web application of jobq: dashboard, HTTP API and live updates, for the extra `jobq-server[web]`.

    app = create_app("postgresql:///shop", auth=Credentials(users={"kai": ("…", Role.ADMIN)}))

Nothing else of jobq_server imports this package, so that a pool alone loads no web framework.
"""

from jobq_server.web.app import create_app
from jobq_server.web.security.credentials import Credentials
from jobq_server.web.security.identity import Identity, Role

__all__ = ["Credentials", "Identity", "Role", "create_app"]
