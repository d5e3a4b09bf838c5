"""What `test_nth_statement.py` is made of: the N-th statement of an operation fails, before or after it was done.

world       one job in every state, workers alive and lost: what every operation finds something to do in
operations  every operation of the contract, asked of that world
place       where a world is: made once, restored for each case, looked at, drained by a worker
postgres    the same on PostgreSQL, and how its N-th statement is made to fail
sqlite      the same on SQLite
schema      what is migrated, from nothing or from an older schema with jobs in it; `schema_postgres`, `schema_sqlite`
"""
