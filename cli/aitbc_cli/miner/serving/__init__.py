"""Models that a miner serves itself: it starts the engine of a model when a job asks for it, and ends it when nobody does."""
