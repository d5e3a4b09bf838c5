"""Parts of the `test_nth_….py`, where the N-th statement of an operation fails, before or after its execution.

world       jobs in every state, workers alive and lost: every operation finds something to do
scenario    one way to call an operation, and what it uses
operations  every operation of the contract, called on that world
operators   those with which an operator changes many jobs, asks a worker or leaves a trace
place       the storage of a world: made once, restored for each case, inspected, drained by a worker
postgres    a place on PostgreSQL, and the injection of faults there
sqlite      a place on SQLite, and the injection of faults there
schema      an empty or older schema to migrate; `schema_postgres`, `schema_sqlite`
"""
