"""A2A 1.0, as the official clients speak it."""
