"""Parts that the `test_fuzzing_….py` share.

values    odd values of every kind, for Hypothesis
verdicts  a call's answer, or an error that names the refused value; anything else is a failure
talk      a server that replays the answers of a real PostgreSQL server, cut, split or changed
decoders  the decoders of foreign bytes, and a run of atheris over them
"""
