"""Why a job does not run, or how it ended: one true sentence.

`why` reads the facts, and `explain` judges them: a job that ended, that waits for a time, that is kept back, that waits
in line, or that runs. Each sentence names what the job waits for, and the command that helps where there is one.
"""

from jobq_core.why.facts import Facts, Reason
from jobq_core.why.reading import why
from jobq_core.why.states import explain

__all__ = ["Facts", "Reason", "explain", "why"]
