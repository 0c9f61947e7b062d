"""The HTTP of gpu."""
