"""The `aitbc` command: an HTTP client, with the server, the database and the miner at hand."""
