"""What the `test_fuzzing_….py` are made of.

values    odd values of every kind, for Hypothesis
verdicts  a call's answer, or a refusal that names what it refuses; all else is a failure
talk      a server of PostgreSQL's protocol that says again what a real one said, cut, split and changed
decoders  what reads bytes that others wrote, and a run of atheris over it
"""
