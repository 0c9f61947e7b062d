"""Batches: requests in a file, done as jobs within a day at a lower price, and answered in a file."""
