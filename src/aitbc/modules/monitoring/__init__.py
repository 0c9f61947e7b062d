"""Monitoring: whether everything works, since when, and who is told when it does not."""
