"""PostgreSQL: units of work, raw connections, batching, transaction retries, the outbox, idempotency, migrations."""
