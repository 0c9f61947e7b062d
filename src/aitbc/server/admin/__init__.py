"""The HTTP of the platform itself: identity, operations, health."""
