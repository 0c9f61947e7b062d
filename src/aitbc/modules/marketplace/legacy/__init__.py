"""The legacy paths of marketplace, answered as the service did that this module replaces."""
