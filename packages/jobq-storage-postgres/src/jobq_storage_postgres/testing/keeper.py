"""Run a server as long as the process that started this script, which needs only Python.

It reads a pipe that only that process writes to. A line with a signal's number is passed on to the server. At the end
of the pipe, which comes even when the tests are killed with SIGKILL, it ends the server and removes its folder. If
that process has ended, it also removes the template of its servers.

PR_SET_PDEATHSIG would not do: it exists on Linux only, follows a thread rather than a process, and is lost when the
server changes its user.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the command that the first argument describes, as JSON."""
    order = json.loads(sys.argv[1])
    server = subprocess.Popen(
        order["command"],
        stdin=subprocess.DEVNULL,
        cwd="/",
        user=order["user"],
        group=order["group"],
        extra_groups=None if order["user"] is None else [],
    )
    abandoned = threading.Event()

    def obey() -> None:
        for line in sys.stdin:
            server.send_signal(int(line))
        abandoned.set()
        server.send_signal(signal.SIGQUIT)

    threading.Thread(target=obey, daemon=True).start()
    code = server.wait()
    if abandoned.is_set():
        shutil.rmtree(order["folder"], ignore_errors=True)
        if os.getppid() != order["parent"]:
            shutil.rmtree(order["template"], ignore_errors=True)
    os._exit(abs(code))  # a normal exit would wait for the reading thread


if __name__ == "__main__":
    main()
