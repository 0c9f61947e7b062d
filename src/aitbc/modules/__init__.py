"""The domains of the marketplace, each a room of its own."""
