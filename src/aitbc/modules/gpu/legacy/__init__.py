"""The legacy dialect of gpu: the paths of the service it replaces, and those of the older coordinator that became
its own."""
