"""What the legacy paths of hermes ask of a caller's key."""

from litestar.di import NamedDependency

from aitbc.modules.hermes.service import HermesService

Hermes = NamedDependency[HermesService]
"""The parameter `hermes` of a handler."""
READ = {"permission": "agents:read"}
LOOK = {"permission": "agents:read", "idempotency": "natural"}
"""A POST that only looks."""
WRITE = {"permission": "agents:write", "idempotency": "natural"}
CALL_ONCE = {"permission": "agents:call"}
"""What takes an Idempotency-Key, and moves money."""
