"""The HTTP of hermes: agents, their runs, and messages that were given up."""
