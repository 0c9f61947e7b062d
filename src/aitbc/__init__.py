"""AITBC: a self-hosted marketplace for GPU compute."""
