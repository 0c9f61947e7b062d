"""A miner as an edge: it serves those who are near, also while the server cannot be reached."""
