"""Signatures, encrypted secrets, API keys, and the format of the chain with its verifier; no input or output."""
