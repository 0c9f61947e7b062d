"""Machines of bookers on this miner: a container with a shell, files and ports, by connections that it opens."""
