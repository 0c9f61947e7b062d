"""Clients of before, against a served installation: each path that they call, and what they read of the answers."""
