"""Signatures, sealed secrets, API keys, and the format of the chain with its verifier: no input or output of its own."""
