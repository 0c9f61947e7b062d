"""Batched commands of gpu: set-based statements for what every miner repeats."""
