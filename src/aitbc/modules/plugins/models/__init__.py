"""The tables of plugins, and the rules that need only their rows."""
