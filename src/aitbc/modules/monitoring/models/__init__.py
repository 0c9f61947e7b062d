"""The tables of monitoring, and the rules that need only their rows."""
