"""The tables of governance, and the rules that need only their rows."""
