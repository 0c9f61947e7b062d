"""The HTTP of monitoring."""
