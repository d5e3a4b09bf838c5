"""A server of eventlet with the app of `sync_app`: eventlet has no command, and gunicorn no worker for it any more."""

import signal
import sys
import warnings

warnings.simplefilter("ignore")  # it says that it is deprecated
import eventlet  # noqa: E402

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from sync_app import app  # noqa: E402

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
socket = eventlet.listen(("127.0.0.1", 0))
print(f"Listening at: http://127.0.0.1:{socket.getsockname()[1]}", flush=True)
wsgi.server(socket, app)
