"""The older dialect of hermes: the service's own paths, the agents' at the coordinator, and swarms."""
