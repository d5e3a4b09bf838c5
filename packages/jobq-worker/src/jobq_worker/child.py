"""`python -m jobq_worker.child`: a worker process of a supervisor, which sends the arguments over standard input."""

from __future__ import annotations

from jobq_core.commands import main
from jobq_worker.link import Link


def run() -> None:
    """Run the command that the supervisor asks for."""
    link = Link.take_over()
    main(args=link.arguments, prog_name="jobq", obj=link)


if __name__ == "__main__":
    run()
