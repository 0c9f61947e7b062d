"""PostgreSQL: units of work, the raw pool, batches, retries, outbox rows, stored answers, migrations."""
