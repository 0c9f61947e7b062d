"""The HTTP of governance."""
