"""The HTTP of plugins."""
