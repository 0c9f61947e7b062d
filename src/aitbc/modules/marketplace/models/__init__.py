"""The tables of marketplace, and the rules that need only their rows."""
