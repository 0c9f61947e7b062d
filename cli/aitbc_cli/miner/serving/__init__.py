"""Models that a miner serves itself: their engines start when a chat asks, and end when nobody does."""
