"""The TLS of HTTP clients that speak to servers on this machine, without TLS: one context, since each takes 40 ms to load."""

import ssl

UNUSED_TLS = ssl.create_default_context()
"""To be given as `verify` to each client of httpx that a test makes."""
