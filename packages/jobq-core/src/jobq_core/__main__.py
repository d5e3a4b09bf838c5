"""`python -m jobq_core`: the `jobq` command, where the scripts' folder is not on the PATH."""

from jobq_core.commands import main

main(prog_name="jobq")
