"""The HTTP of marketplace."""
