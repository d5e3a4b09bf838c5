"""PostgreSQL storage for jobq."""
