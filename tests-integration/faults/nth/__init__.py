"""Parts of the `test_nth_….py`, where the N-th statement of an operation fails, before or after its execution.

world       jobs in every state, workers alive and lost: every operation finds something to do
operations  every operation of the contract, called on that world
place       the storage of a world: made once, restored for each case, inspected, drained by a worker
postgres    a place on PostgreSQL, and the injection of faults there
sqlite      a place on SQLite, and the injection of faults there
schema      an empty or older schema to migrate; `schema_postgres`, `schema_sqlite`
"""
