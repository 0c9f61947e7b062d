"""AI: paid jobs, from submission to an accepted result."""
