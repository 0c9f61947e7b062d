"""The HTTP of ai."""
