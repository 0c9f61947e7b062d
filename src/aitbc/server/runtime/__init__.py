"""Start, serve, supervise, stop."""
